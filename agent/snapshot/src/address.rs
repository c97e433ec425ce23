//! Where endpoints are reached.

use std::{
    fmt::{self, Display},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The address of a stream socket.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Address {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A unix socket (Envoy's pipe).
    Unix(UnixPath),
}

/// Where a unix socket is: a path, or `@` and a name that no file has. Its text is Envoy's.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixPath(Arc<str>);

impl Address {
    /// The IP address and port, if it has them.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket().map(|address| address.ip())
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.socket().map(|address| address.port())
    }
}

impl UnixPath {
    /// A path, or `@` and a name, as resources are read: neither empty nor longer than the kernel takes.
    pub fn new(path: &str) -> Self {
        Self(path.into())
    }

    /// The path, or `@` and the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name after the `@`, if it is no file.
    pub fn abstract_name(&self) -> Option<&str> {
        self.0.strip_prefix('@')
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(address: (I, u16)) -> Self {
        Self::Socket(address.into())
    }
}

impl From<UnixPath> for Address {
    fn from(path: UnixPath) -> Self {
        Self::Unix(path)
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => path.fmt(f),
        }
    }
}

impl Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
