//! Names the mistakes of TLS origination, which neither end can tell: TLS within TLS, and TLS to an endpoint that speaks
//! clear text.

use crate::{
    complaints::warn,
    connection::Connection,
    transport::MaybeTls,
    upstream::{ConnectError, Lease, UpstreamConnection},
};

/// Warns when a client's own TLS goes into the TLS that its cluster asks for: the endpoint finds the one inside the other
/// and takes it for garbage. Between proxies of the mesh that is as it should be.
pub(crate) fn tell_if_doubled(connection: &Connection, lease: &Lease, opened: &UpstreamConnection) {
    let is_asked_for = || lease.policy().tls.as_deref().is_some_and(|tls| !tls.is_of_mesh());
    if connection.carries_tls() && matches!(opened.stream, MaybeTls::Tls(_)) && is_asked_for() {
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
