//! TLS, ours as a server and ours as a client: the only module that knows rustls and its crypto provider.

mod certificate;
mod clients;
mod hello;
mod provider;
mod server;
mod stream;
mod upstream;

pub use certificate::{CertificateError, check_authority, check_certificate};
pub(crate) use hello::Hello;
pub use server::ContextError;
pub(crate) use server::{Cache, Contexts, accept};
pub(crate) use stream::TlsStream;
pub(crate) use upstream::{Connector, Speaks};

/// The fatal alert that no server here has the name asked for (RFC 6066 §3), in the clear: no version is agreed yet.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
