//! Opaque connections through a forward proxy at the endpoint, asked by CONNECT.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
};

use dataplane::{AccessLog, Settings};
use snapshot::Draft;

use crate::support::{Client, Proxy, Upstream, cluster, endpoints, gateway_draft, tcp_chain};

/// A forward proxy: takes each client where its CONNECT says, or answers 502.
fn forward_proxy() -> Upstream {
    Upstream::start(|mut client| {
        let head = client.request_head().unwrap();
        let far_end = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap();
        assert!(head.contains(&format!("\r\nhost: {far_end}\r\n")), "{head}");
        let Ok(server) = TcpStream::connect(far_end) else {
            client.send("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
            return;
        };
        client.send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 Connection established\r\nvia: it\r\n\r\n");
        let pass = |mut from: TcpStream, mut to: TcpStream| {
            _ = std::io::copy(&mut from, &mut to);
            _ = to.shutdown(Shutdown::Write);
        };
        let (up, down) = (client.0.try_clone().unwrap(), server.try_clone().unwrap());
        let upwards = thread::spawn(move || pass(up, server));
        pass(down, client.0);
        upwards.join().unwrap();
    })
}

fn draft(address: SocketAddr, proxies: &[SocketAddr], far_end: SocketAddr) -> Draft {
    let mut draft = gateway_draft(address, &[]);
    draft.listeners[0].filter_chains = vec![tcp_chain(0)];
    draft.clusters[0] = cluster("test", endpoints(proxies));
    draft.clusters[0].tunnel = Some(far_end.to_string());
    draft
}

#[test]
fn bytes_go_to_the_far_end_and_those_that_come_at_once_are_not_lost() {
    let server = Upstream::start(|mut client| {
        client.send("welcome;");
        let (mut from, mut to) = (client.0.try_clone().unwrap(), client.0);
        _ = std::io::copy(&mut from, &mut to);
        _ = to.shutdown(Shutdown::Write);
    });
    let through = forward_proxy();
    let proxy = Proxy::start(Settings::default(), |at| draft(at, &[through.address], server.address));
    for _ in 0..3 {
        let mut client = proxy.connect();
        client.send("to and fro");
        client.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(String::from_utf8(client.rest()).unwrap(), "welcome;to and fro");
    }
    assert_eq!((through.connections(), server.connections()), (3, 3), "a tunnel for each connection");
}

#[test]
fn refusals_go_to_the_next_endpoint_and_are_named_in_the_log() {
    let server = Upstream::start(|mut client| _ = client.send("here"));
    let through = forward_proxy();
    let refusing = Upstream::answering(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let both = [refusing.address, through.address];
    let proxy = Proxy::start(Settings::default(), |at| draft(at, &both, server.address));
    for _ in 0..8 {
        assert_eq!(proxy.connect().rest(), b"here");
    }
    for (answer, reason) in [
        (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "tunnel_refused:_407"),
        (b"SSH-2.0-server\r\n\r\n", "tunnel_refused:_an_answer_that_is_not_HTTP/1.1"),
        (b"", "tunnel_refused:_it_closed_the_connection"),
    ] {
        let refusing = Upstream::start(move |mut client| {
            client.request_head();
            client.send(answer);
        });
        assert!(logged(refusing.address, server.address).contains(reason), "{reason}");
    }
}

/// The line of the access log about a connection through this proxy.
fn logged(through: SocketAddr, far_end: SocketAddr) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let access_log = Some(AccessLog::open(file.path()).unwrap());
    let settings = Settings { access_log, ..Settings::default() };
    let proxy = Proxy::start(settings, |at| draft(at, &[through], far_end));
    assert_eq!(Client::connect(proxy.address).rest_or_reset(), b"");
    proxy.plane.stop();
    std::fs::read_to_string(file.path()).unwrap()
}
