//! What a new snapshot changes for listeners, endpoints and living connections.

use crate::support::{PATIENCE, Proxy, Upstream, gateway_draft};

#[test]
fn a_new_snapshot_serves_the_next_request_of_a_living_connection() {
    let (first, second) = (Upstream::answering(OLD), Upstream::answering(NEW));
    let mut proxy = Proxy::gateway(&[first.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "old");
    proxy.publish(gateway_draft(proxy.address, &[second.address]));
    assert_eq!(client.get("/").text(), "new");
}

pub(crate) const OLD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold";
const NEW: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew";

#[test]
fn an_endpoint_that_is_gone_from_the_configuration_loses_its_idle_connections() {
    let (ended, noticed) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let first = Upstream::start(move |mut client| {
        while client.request_head().is_some() {
            client.send(OLD);
        }
        ended.lock().unwrap().send(()).unwrap();
    });
    let second = Upstream::answering(NEW);
    let mut proxy = Proxy::gateway(&[first.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "old");
    proxy.publish(gateway_draft(proxy.address, &[second.address]));
    // The client's connection lives on; it must not keep the old snapshot.
    noticed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.get("/").text(), "new");
}

#[test]
fn a_listener_moves_to_a_narrower_address_on_its_port() {
    let upstream = Upstream::answering(OLD);
    let mut proxy = Proxy::gateway(&[upstream.address]);
    let everywhere = std::net::SocketAddr::from(([0, 0, 0, 0], proxy.address.port()));
    proxy.publish(gateway_draft(everywhere, &[upstream.address]));
    assert_eq!(proxy.connect().get("/").text(), "old");
    proxy.publish(gateway_draft(proxy.address, &[upstream.address]));
    assert_eq!(proxy.connect().get("/").text(), "old");
}
