//! Where the workload's calls come in.

use std::{fmt, net::SocketAddr};

use snapshot::{Binding, Direction, Listener, UnixPath};

use crate::draft::{address_name, captured_listener, dialled_listener, socket_listener};

/// Where connections come in.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum At<'s> {
    /// Captured ones, by where they were going.
    Captured(SocketAddr),
    /// At an address that the workload dials itself.
    Dialled(SocketAddr),
    /// At a unix socket, a path or `@` and a name, that the workload connects to.
    Unix(&'s str),
}

/// The virtual hosts that share a table.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Shared<'s> {
    /// Those of a port.
    Port(u16),
    /// Those of a unix socket, whatever the ports.
    Unix(&'s str),
}

impl<'s> At<'s> {
    /// Whether the workload means the proxy itself, and not somebody it was going to.
    pub(super) fn is_socket(self) -> bool {
        !matches!(self, Self::Captured(_))
    }

    /// Whether connections to every address come in here.
    pub(super) fn is_every_address(self) -> bool {
        match self {
            Self::Captured(at) | Self::Dialled(at) => at.ip().is_unspecified(),
            Self::Unix(_) => false,
        }
    }

    /// `<ip>_<port>`, or the path and `_0`.
    pub(super) fn name(self) -> String {
        match self {
            Self::Captured(at) | Self::Dialled(at) => address_name(at),
            Self::Unix(path) => format!("{path}_0"),
        }
    }

    /// The table of a port that is served here.
    pub(super) fn table(self, port: u16) -> Shared<'s> {
        match self {
            Self::Captured(_) | Self::Dialled(_) => Shared::Port(port),
            Self::Unix(path) => Shared::Unix(path),
        }
    }

    pub(super) fn listener(self) -> Listener {
        match self {
            Self::Captured(at) => captured_listener(at),
            Self::Dialled(at) => dialled_listener(Direction::Outbound, at),
            Self::Unix(path) => {
                socket_listener(self.name(), Direction::Outbound, Binding::Unix(UnixPath::new(path)))
            }
        }
    }

    /// In messages about a network.
    pub(super) fn port_in_words(self) -> String {
        match self {
            Self::Captured(at) | Self::Dialled(at) => format!("port {}", at.port()),
            Self::Unix(_) => self.to_string(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captured(at) | Self::Dialled(at) => at.fmt(f),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

impl fmt::Display for Shared<'_> {
    /// Names the table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}
