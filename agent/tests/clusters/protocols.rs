//! What is spoken to endpoints: by the port of the Service, or as the pool of the DestinationRule has it.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use super::{
    gateway::{Gateway, app},
    services::{service_with, slice},
};
use crate::support::{Client, Endpoint};

const ONE: &str = "GET / HTTP/1.1";
const TWO: &str = "PRI * HTTP/2.0";

/// Preface, empty settings, and a GET of `/` by HPACK's static table.
const HTTP2_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
    \0\0\x14\x01\x05\0\0\0\x01\x82\x84\x86\x41\x0fapp.example.com";

/// What an endpoint hears first from clients of HTTP/1 and HTTP/2: a request, or the preface of HTTP/2.
fn spoken(mesh: &str, resources: impl Fn(SocketAddr) -> String) -> [String; 2] {
    let (said, first) = mpsc::channel();
    let server = Endpoint::start(move |mut client: Client| _ = said.send(client.line()));
    let gateway = Gateway::start_with(&resources(server.address), mesh, &[]);
    let heard = |request: &[u8]| {
        let mut client = gateway.client();
        client.send(request);
        let line = first.recv_timeout(Duration::from_secs(10)).expect("the endpoint is asked");
        // Until the first connection to the endpoint has failed, the next request would wait for it, too.
        client.exactly(1);
        line
    };
    [heard(b"GET / HTTP/1.1\r\nhost: app.example.com\r\n\r\n"), heard(HTTP2_REQUEST)]
}

#[test]
fn the_version_is_that_of_the_pool() {
    const UPGRADING: &str = "h2UpgradePolicy: UPGRADE\n";
    for (mesh, pool, expected) in [
        ("", "{http: {h2UpgradePolicy: DEFAULT}}", [ONE, ONE]),
        ("", "{http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", [ONE, ONE]),
        ("", "{http: {h2UpgradePolicy: UPGRADE}}", [TWO, TWO]),
        ("", "{http: {useClientProtocol: true}}", [ONE, TWO]),
        // What a rule leaves to the mesh is as this has it.
        (UPGRADING, "{http: {maxRetries: 9}}", [TWO, TWO]),
        (UPGRADING, "{http: {h2UpgradePolicy: DEFAULT}}", [TWO, TWO]),
        (UPGRADING, "{http: {h2UpgradePolicy: DO_NOT_UPGRADE}}", [ONE, ONE]),
    ] {
        let heard = spoken(mesh, |address| app(&[address], &format!("{{connectionPool: {pool}}}")));
        assert_eq!(heard, expected, "{mesh}{pool}");
    }
}

/// By `appProtocol`, else by the name up to its first `-`; what that does not tell is as the client has it.
#[test]
fn the_port_of_a_service_tells_what_is_spoken() {
    for (name, app_protocol, expected) in [
        ("http", "", [ONE, ONE]),
        ("http-web", "", [ONE, ONE]),
        ("http2", "", [TWO, TWO]),
        ("grpc-orders", "", [TWO, TWO]),
        ("tcp-http", "", [ONE, ONE]),
        ("web", "", [ONE, TWO]),
        ("web-http", "", [ONE, TWO]),
        ("httpweb", "", [ONE, TWO]),
        ("web", "http", [ONE, ONE]),
        ("web", "HTTP2", [TWO, TWO]),
        ("http", "grpc", [TWO, TWO]),
        ("web", "kubernetes.io/h2c", [TWO, TWO]),
        ("grpc", "kubernetes.io/ws", [ONE, ONE]),
        ("http2", "example.com/own", [ONE, TWO]),
    ] {
        let heard = spoken("", |address| {
            let more = if app_protocol.is_empty() {
                String::new()
            } else {
                format!(", appProtocol: {app_protocol}")
            };
            let slice = slice((name, address.port()), "- {addresses: [127.0.0.1]}\n");
            service_with(&format!("{{name: {name}, port: 80{more}}}"), &slice)
        });
        assert_eq!(heard, expected, "{name} {app_protocol}");
    }
}
