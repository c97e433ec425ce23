//! Opaque connections through a forward proxy at the endpoint, asked by CONNECT or POST.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    thread,
};

use dataplane::{AccessLog, Settings};
use snapshot::{Draft, ServerNameSource, Tunnel, TunnelMethod, UpstreamTls};

use crate::{
    issuer::Issuer,
    origination::{TlsServer, by, dns, tls},
    support::{Client, Proxy, Upstream, cluster, endpoints, gateway_draft, tcp_chain},
};

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
    draft.clusters[0].tunnel = Some(Tunnel { far_end: far_end.to_string(), method: TunnelMethod::Connect });
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
        (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "tunnel_response:407"),
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

/// A gateway whose connections are posted to this proxy.
fn posting(through: SocketAddr) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = draft(address, &[through], through);
        draft.clusters[0].tunnel =
            Some(Tunnel { far_end: "far.test:5432".to_owned(), method: TunnelMethod::Post });
        draft
    })
}

/// The head of Envoy 1.40, then what it sends of `to and fro` and of the client's end.
const POSTED: &str = "POST / HTTP/1.1\r\nhost: far.test:5432\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn bodies_carry_a_connection_that_was_posted() {
    for (head, body) in [
        ("HTTP/1.1 201 Created\r\n\r\n", "welcome;"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n", "welcome;"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "3\r\nwel\r\n5;x=y\r\ncome;\r\n0\r\na: b\r\n\r\nmore",
        ),
    ] {
        let through = Upstream::start(move |mut client| {
            assert_eq!(client.request_head().unwrap(), POSTED);
            client.send("HTTP/1.1 102 Processing\r\n\r\n");
            client.send(head);
            let mut request = [0; 20];
            client.0.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"a\r\nto and fro\r\n0\r\n\r\n", "{head}");
            client.send(body);
        });
        let proxy = posting(through.address);
        let mut client = proxy.connect();
        client.send("to and fro");
        client.0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(String::from_utf8(client.rest()).unwrap(), "welcome;", "{head}");
    }
}

#[test]
fn much_is_posted_both_ways_without_loss() {
    const MUCH: usize = 3_000_000;
    let through = Upstream::start(|mut client| {
        client.request_head().unwrap();
        client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        // Sends back chunk for chunk what it gets, the last one included.
        let mut from = client.0.try_clone().unwrap();
        let (mut last, mut piece) = (Vec::new(), [0; 4096]);
        while !last.ends_with(b"\r\n0\r\n\r\n") {
            let n = from.read(&mut piece).unwrap();
            assert_ne!(n, 0, "the request ends before the connection");
            client.0.write_all(&piece[..n]).unwrap();
            last.extend_from_slice(&piece[..n]);
            last.drain(..last.len().saturating_sub(7));
        }
    });
    let proxy = posting(through.address);
    let mut client = proxy.connect();
    let sent: Vec<u8> = (0..MUCH).map(|at| b'a' + (at % 23) as u8).collect();
    let (mut writing, bytes) = (client.0.try_clone().unwrap(), sent.clone());
    let writer = thread::spawn(move || {
        writing.write_all(&bytes).unwrap();
        writing.shutdown(Shutdown::Write).unwrap();
    });
    assert!(client.rest() == sent, "what comes back is what was sent");
    writer.join().unwrap();
}

#[test]
fn a_posted_connection_that_is_cut_off_is_not_taken_for_the_whole() {
    for body in ["5\r\nhel", "not a chunk"] {
        let through = Upstream::start(move |mut client| {
            client.request_head().unwrap();
            client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            client.send(body);
            _ = client.0.shutdown(Shutdown::Write);
        });
        let proxy = posting(through.address);
        let mut client = proxy.connect();
        let ended = client.0.read_to_end(&mut Vec::new());
        assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset), "{body}");
    }
}

#[test]
fn nor_is_one_whose_tls_is_cut_off() {
    let issuer = Issuer::new();
    let through = TlsServer::start(&issuer.issue(&[dns("proxy.test")], |_| {}), None, &[]);
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = draft(address, &[through.address], through.address);
        let far_end = "cut.test:5432".to_owned();
        draft.clusters[0].tunnel = Some(Tunnel { far_end, method: TunnelMethod::Post });
        let server_name = ServerNameSource::Fixed("proxy.test".to_owned());
        draft.clusters[0].tls = Some(Arc::new(UpstreamTls { server_name, ..tls(by(&issuer, &[])) }));
        draft
    });
    let mut client = proxy.connect();
    let ended = client.0.read_to_end(&mut Vec::new());
    assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}
