//! The proxy's own interfaces, which are no endpoints, whoever writes that they are.

use std::net::SocketAddr;

use super::gateway::{Gateway, entry};
use crate::support::eventually;

/// A ServiceEntry whose endpoint is what a name stands for.
fn by_name(name: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app}}
spec:
  hosts: [app.example.com]
  resolution: DNS
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 81, name: tcp, protocol: TCP}}]
  endpoints: [{{address: {name}, ports: {{http: {port}, tcp: {port}}}}}]
"
    )
}

const REFUSED: &str = "the_endpoint_is_a_port_of_the_proxy_itself";

#[test]
fn nobody_ends_the_proxy_through_itself() {
    let gateway = Gateway::start("");
    let quit = |times: usize| {
        let request = "POST /quitquitquit HTTP/1.1\r\nhost: app.example.com\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(gateway.client().send(request).answer().status(), 503);
        gateway.access_log().matches(REFUSED).count() >= times
    };
    for (interface, times) in [(&gateway.interfaces.admin, 1), (&gateway.interfaces.agent, 2)] {
        let address: SocketAddr = interface.parse().unwrap();
        gateway.change(&entry([(address, "")]));
        gateway.log_line(&["leads to a port of the proxy itself", interface]);
        quit(0);
        gateway.change(&by_name("localhost", address.port()));
        eventually("a name that stands for it is refused", || quit(times));
    }
    gateway.await_ready();
    assert!(gateway.ended().is_none());
}
