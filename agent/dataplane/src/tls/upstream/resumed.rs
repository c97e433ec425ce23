//! Sessions with endpoints that are resumed.

use std::io;

use rustls::{
    ClientConnection, Error, HandshakeKind,
    client::danger::ServerCertVerifier,
    pki_types::{ServerName, UnixTime},
};

/// Verifies what an endpoint has shown when the session began that was resumed, of which rustls verifies nothing: each
/// connection brings the means to resume the next, so that a certificate would be good for ever.
pub(super) fn verify_resumed(
    session: &ClientConnection,
    name: &ServerName<'_>,
    verifier: &dyn ServerCertVerifier,
) -> Result<(), Outdated> {
    match session.peer_certificates() {
        Some([own, others @ ..]) if session.handshake_kind() == Some(HandshakeKind::Resumed) => {
            let verified = verifier.verify_server_cert(own, others, name, &[], UnixTime::now());
            verified.map(|_| ()).map_err(Outdated)
        }
        _ => Ok(()),
    }
}

/// What an endpoint showed when its session began is not good any more.
#[derive(Debug, thiserror::Error)]
#[error("the session that was resumed began with a certificate that is refused now: {0}")]
pub(super) struct Outdated(Error);

/// Whether a connection failed because a session was resumed that began with what is refused now. The endpoint may have
/// something better to show by now, if it is asked.
pub(crate) fn is_outdated(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Outdated>())
}
