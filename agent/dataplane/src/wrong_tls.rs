//! Names the mistakes with TLS that neither end can tell: TLS within TLS, TLS to an endpoint that speaks clear text, and
//! TLS of clients where HTTP is served in clear text.

use snapshot::Direction;

use crate::{
    connection::Connection,
    log_limit::warn,
    upstream::{ConnectError, Lease, OwnEnd},
};

/// Warns when a client's own TLS goes into the TLS that its cluster asks for: the endpoint finds the one inside the other
/// and takes it for garbage. Between proxies of the mesh that is as it should be.
pub(crate) fn tell_if_doubled(connection: &Connection, lease: &Lease, end: &OwnEnd) {
    let policy = lease.policy();
    // The outer TLS of a tunnel is the proxy's, who finds no TLS in it.
    let is_asked_for = policy.tunnel.is_none() && policy.tls.as_deref().is_some_and(|tls| !tls.is_of_mesh());
    if connection.carries_tls() && end.session.is_some() && is_asked_for {
        warn(
            connection,
            lease,
            "double TLS: the client speaks TLS itself, and the cluster's `tls` puts it into another: \
             set `tls.mode: DISABLE` for this port, or let clients speak clear text",
        );
    }
}

/// Warns when the endpoint of a cluster that asks for TLS does not speak it.
pub(crate) fn tell_if_clear_text(connection: &Connection, lease: &Lease, error: &ConnectError) {
    if matches!(error, ConnectError::ClearText) {
        warn(
            connection,
            lease,
            "TLS is spoken to an endpoint that answers in clear text: set `tls.mode: DISABLE` for this port, or name \
             the endpoint's port for TLS",
        );
    }
}

/// Says when what a client sends in the place of a request in clear text is TLS.
pub(crate) fn tell_if_client_hello(connection: &Connection, received: &[u8]) {
    // A handshake record of any version (RFC 8446 §5.1).
    if connection.is_over_tls() || !received.starts_with(&[22, 3]) {
        return;
    }
    let Some(unsaid) = connection.worker().log_limit.admit() else { return };
    let remedy = match connection.direction {
        Direction::Gateway => "ask by http, or give the server protocol HTTPS and `tls`",
        Direction::Inbound => {
            "name the port `https` or `tls` if the application speaks TLS itself; if the client is of the mesh, \
             `mtls.mode: DISABLE` in a PeerAuthentication keeps it out"
        }
        Direction::Outbound => {
            "name the port `https` or `tls`, not for HTTP, if its clients speak TLS themselves"
        }
    };
    tracing::info!(
        downstream = %connection.peer,
        destination = %connection.destination,
        unsaid = (unsaid > 0).then_some(unsaid),
        "TLS refused: HTTP is served in clear text here; {remedy}"
    );
}
