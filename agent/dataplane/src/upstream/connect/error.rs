//! Why no connection to an endpoint came about.

use std::io;

use snapshot::{Address, UnixPath};

/// Why no connection to an endpoint came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("connection timeout")]
    Timeout,
    #[error("remote connection failure")]
    Failed(#[from] io::Error),
    #[error("remote connection failure")]
    FailedAtOnce {
        at: UnixPath,
        #[source]
        error: io::Error,
    },
    #[error("TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("TLS handshake failed: the endpoint answers in clear text")]
    ClearText,
    #[error("no tunnel through the proxy at the endpoint: it answers {0}")]
    TunnelAnswered(u16),
    #[error("no tunnel through the proxy at the endpoint: {0}")]
    TunnelRefused(String),
    #[error("the cluster has as many connections or waiting requests as it may")]
    Overflow,
    #[error("the endpoint does not speak HTTP/2: {0}")]
    NotHttp2(String),
}

impl ConnectError {
    /// Why `address` could not be connected to.
    pub(super) fn of(error: io::Error, address: &Address) -> Self {
        match address {
            Address::Socket(_) => Self::Failed(error),
            Address::Unix(path) => Self::FailedAtOnce { at: path.clone(), error },
        }
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: what the network or TLS says of it, in Envoy's words where it has any.
    pub(crate) fn transport_failure(&self) -> Option<Box<str>> {
        let text = match self {
            Self::Failed(error) => format!("delayed connect error: {}", words(error)),
            Self::FailedAtOnce { at, error } => {
                format!("immediate connect error: {}|remote_address:{at}", words(error))
            }
            Self::Tls(error) => format!("TLS_error: {error}"),
            Self::ClearText => "TLS_error: the endpoint answers in clear text".to_owned(),
            Self::NotHttp2(error) => format!("not HTTP/2: {error}"),
            Self::TunnelAnswered(status) => format!("tunnel_response:{status}"),
            Self::TunnelRefused(answer) => format!("tunnel refused: {answer}"),
            Self::Timeout | Self::Overflow => return None,
        };
        // It stands among values that blanks part.
        Some(text.replace(|char: char| char.is_whitespace() || char.is_control(), "_").into())
    }

    /// What the proxy at the endpoint said that opens no tunnel.
    pub(crate) fn tunnel_refusal(&self) -> Option<String> {
        match self {
            Self::TunnelAnswered(status) => Some(status.to_string()),
            Self::TunnelRefused(answer) => Some(answer.clone()),
            _ => None,
        }
    }

    /// Whether the cluster has as many connections as it may, or as many requests waiting for one.
    pub(crate) fn is_overflow(&self) -> bool {
        matches!(self, Self::Overflow)
    }

    /// Whether nobody is there to take connections.
    pub(super) fn is_refusal(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NotFound};
        match self {
            Self::Failed(error) => matches!(error.kind(), ConnectionRefused | HostUnreachable),
            Self::FailedAtOnce { error, .. } => matches!(error.kind(), ConnectionRefused | NotFound),
            _ => false,
        }
    }

    /// The same for another who waited for the connection.
    pub(in crate::upstream) fn again(&self) -> Self {
        match self {
            Self::Timeout => Self::Timeout,
            Self::Failed(error) => Self::Failed(again(error)),
            Self::FailedAtOnce { at, error } => Self::FailedAtOnce { at: at.clone(), error: again(error) },
            Self::Tls(error) => Self::Tls(again(error)),
            Self::ClearText => Self::ClearText,
            Self::TunnelAnswered(status) => Self::TunnelAnswered(*status),
            Self::TunnelRefused(answer) => Self::TunnelRefused(answer.clone()),
            Self::Overflow => Self::Overflow,
            Self::NotHttp2(error) => Self::NotHttp2(error.clone()),
        }
    }
}

/// The kernel's words alone, where they are the kernel's.
fn words(error: &io::Error) -> String {
    let known = error.raw_os_error().map(|number| nix::errno::Errno::from_raw(number).desc());
    known.map_or_else(|| error.to_string(), str::to_owned)
}

fn again(error: &io::Error) -> io::Error {
    let other = || io::Error::new(error.kind(), error.to_string());
    error.raw_os_error().map_or_else(other, io::Error::from_raw_os_error)
}
