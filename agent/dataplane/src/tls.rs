//! TLS, ours as a server and ours as a client: the only module that knows rustls and its crypto provider.

mod authorities;
mod certificate;
mod clients;
mod first_version;
mod hello;
mod peer;
mod presented;
mod provider;
mod server;
mod signatures;
mod stream;
mod tickets;
mod upstream;
mod words;

pub use certificate::{CertificateError, check_authority, check_certificate};
pub(crate) use hello::{Hello, Malformed as MalformedHello};
pub(crate) use peer::{ClientCertificate, RetainedFields, Session, UpstreamSession};
pub use server::ContextError;
pub(crate) use server::{Acceptor, Cache, Contexts};
pub(crate) use stream::TlsStream;
pub use upstream::connect_unverified;
pub(crate) use upstream::{Connector, is_clear_text, is_outdated};
pub(crate) use words::why;

/// Fatal alerts that are sent before rustls has seen anything (RFC 8446 §6.2, RFC 6066 §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Alert {
    /// What was sent is no client hello.
    DecodeError = 50,
    /// Nothing the client did: the server has no certificate.
    InternalError = 80,
    /// No server here has the name asked for.
    UnrecognizedName = 112,
}

impl Alert {
    /// The alert in the clear: no version is agreed yet.
    pub(crate) fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}
