//! Clients of gateways whose load balancer introduces them with a PROXY header, and what is said of those that come
//! without one.

use std::pin::pin;

use tokio::net::TcpStream;

use super::Connection;
use crate::{
    proxy_protocol::{self, Header, HeaderError},
    tcp,
};

/// Takes in who the client is and where it was going. Whether there was a header that says so.
pub(super) async fn receive_header(connection: &mut Connection, stream: &mut TcpStream) -> bool {
    let limit = connection.worker().settings.handshake_timeout;
    let header = connection.deadline.within(limit, pin!(proxy_protocol::receive(stream))).await;
    match header.unwrap_or(Err(HeaderError::TooLate)) {
        Ok(Header::Proxied { source, destination }) => {
            (connection.peer, connection.destination) = (source, destination);
            true
        }
        Ok(Header::Local) => true,
        Err(error) => {
            tell(connection, &error);
            false
        }
    }
}

/// Counts a connection without a header, and logs it: in the access log, and now and then for the operator.
fn tell(connection: &Connection, error: &HeaderError) {
    let worker = connection.worker();
    let (downstream, destination) = (connection.peer, connection.destination);
    if let HeaderError::Silent = error {
        tracing::debug!(%downstream, %destination, "{error}");
        return;
    }
    worker.count(|counts| counts.without_proxy_header += 1);
    tcp::log_unopened(connection, &error.to_string());
    let Some(unsaid) = worker.log_limit.admit() else { return };
    tracing::warn!(
        %downstream,
        %destination,
        unsaid = (unsaid > 0).then_some(unsaid),
        "connection closed: {error}; switch the PROXY protocol on at the load balancer, or take \
         `gatewayTopology.proxyProtocol` away from the ProxyConfig of this gateway"
    );
}
