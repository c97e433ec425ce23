//! Opaque connections: by the client's address, and the PROXY protocol both ways.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::os::fd::AsRawFd;

use super::gateway::{Gateway, app};
use crate::support::{
    Client, Endpoint, free_port,
    http2::{ACK, DATA, END_STREAM, Frame, HEADERS, PREFACE_LENGTH, SETTINGS, frame, head},
    printed,
};

/// A connection to a port of loopback from one of its addresses.
fn connect_from(from: Ipv4Addr, port: u16) -> Client {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let [a, b, c, d] = from.octets();
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
    connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    Client::of(TcpStream::from(socket))
}

#[test]
fn connections_of_one_address_meet_one_endpoint() {
    let servers = ["a", "b", "c", "d"].map(Endpoint::opaque);
    let addresses = servers.each_ref().map(|server| server.address);
    for algorithm in ["", ", maglev: {tableSize: 251}"] {
        let policy = format!("{{loadBalancer: {{consistentHash: {{useSourceIp: true{algorithm}}}}}}}");
        let gateway = Gateway::start(&app(&addresses, &policy));
        let met = |last: u8| connect_from([127, 0, 2, last].into(), gateway.opaque).send("x\n").line();
        let first: BTreeMap<u8, String> = (1..30).map(|last| (last, met(last))).collect();
        for (last, name) in &first {
            assert_eq!(&met(*last), name, "{policy}");
        }
        assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 4, "{policy}: {first:?}");
    }
}

#[test]
fn requests_of_one_address_meet_one_endpoint() {
    let servers = ["a", "b", "c", "d"].map(Endpoint::named);
    let addresses = servers.each_ref().map(|server| server.address);
    let gateway = Gateway::start(&app(&addresses, "{loadBalancer: {consistentHash: {useSourceIp: true}}}"));
    let met = |last: u8| connect_from([127, 0, 2, last].into(), gateway.http).get("/").body;
    let first: BTreeMap<u8, String> = (1..30).map(|last| (last, met(last))).collect();
    assert!(first.iter().all(|(last, name)| met(*last) == *name));
    assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 4, "{first:?}");
}

#[test]
fn connections_go_to_another_endpoint_when_one_refuses() {
    let server = Endpoint::opaque("good");
    let dead: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let gateway = Gateway::start(&app(&[dead, server.address], "{loadBalancer: {simple: ROUND_ROBIN}}"));
    for _ in 0..6 {
        assert_eq!(gateway.opaque_client().send("x\n").line(), "good");
    }
}

/// Says the PROXY header that it was sent: the line of version 1, or the addresses of version 2.
pub(super) fn tell_header(mut client: Client) {
    let start = client.exactly(12);
    let told = match start.starts_with(b"PROXY ") {
        true => String::from_utf8(start).unwrap() + &client.line(),
        false => {
            assert_eq!(start, b"\r\n\r\n\0\r\nQUIT\n");
            let rest = client.exactly(16);
            assert_eq!(rest[..4], [0x21, 0x11, 0, 12], "PROXY, TCP over IPv4, 12 bytes");
            let [from, to] =
                [&rest[4..8], &rest[8..12]].map(|ip| Ipv4Addr::from(<[u8; 4]>::try_from(ip).unwrap()));
            let [from_port, to_port] =
                [&rest[12..14], &rest[14..16]].map(|port| u16::from_be_bytes(port.try_into().unwrap()));
            format!("v2 {from} {to} {from_port} {to_port}")
        }
    };
    let mut rest = client.line();
    // Of a request the head.
    if rest.ends_with("HTTP/1.1") {
        rest += &client.message().unwrap().head;
        let length = told.len();
        client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{told}"));
    } else {
        client.send(format!("{told}\n"));
    }
}

fn telling_header() -> Endpoint {
    Endpoint::start(tell_header)
}

#[test]
fn endpoints_are_told_the_client_in_either_version() {
    let server = telling_header();
    for (written, v2) in [("{version: V1}", false), ("{version: V2}", true), ("{}", false)] {
        let gateway = Gateway::start(&app(&[server.address], &format!("{{proxyProtocol: {written}}}")));
        let expected = |client: &Client, port: u16| {
            let own = client.0.local_addr().unwrap().port();
            let start = if v2 { "v2" } else { "PROXY TCP4" };
            format!("{start} 127.0.0.1 127.0.0.1 {own} {port}")
        };
        let mut client = gateway.opaque_client();
        assert_eq!(client.send("x\n").line(), expected(&client, gateway.opaque), "{written}");
        let mut client = gateway.client();
        assert_eq!(client.get("/").body, expected(&client, gateway.http), "{written}");
    }
}

/// A balancer before the gateway tells it the client, and the gateway its endpoints.
#[test]
fn the_client_of_a_balancer_is_told_to_endpoints() {
    let server = telling_header();
    let mesh = "defaultConfig: {gatewayTopology: {proxyProtocol: {}}}\n";
    let resources = app(&[server.address], "{proxyProtocol: {version: V1}}");
    let gateway = Gateway::start_with(&resources, mesh, &[]);
    let told = "PROXY TCP4 192.0.2.1 10.0.0.7 4096 80";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x07\x10\0\0\x50";
    for header in [format!("{told}\r\n").as_bytes(), v2] {
        assert_eq!(gateway.opaque_client().send(header).send("x\n").line(), told);
        assert_eq!(gateway.client().send(header).get("/").body, told);
    }
    gateway.access_line(&["192.0.2.1:4096"]);
    // Whoever says nothing of the kind is no balancer.
    let mut stranger = gateway.client();
    stranger.ask("/", "");
    assert!(stranger.ends());
}

/// `tunnel`: a connection of its own for each, to the far end that the rule names.
#[test]
fn connections_go_through_the_tunnel_of_the_rule() {
    let through = Endpoint::start(|mut client: Client| {
        let asked = client.message().unwrap();
        client.send("HTTP/1.1 200 OK\r\n\r\n");
        let line = client.line();
        client.send(format!("{} {line}\n", asked.asks_for()));
    });
    for protocol in ["", "protocol: CONNECT, "] {
        let policy = format!("{{tunnel: {{{protocol}targetHost: far.test, targetPort: 443}}}}");
        let gateway = Gateway::start(&app(&[through.address], &policy));
        assert_eq!(gateway.opaque_client().send("hello\n").line(), "CONNECT far.test:443 hello");
    }
}

/// `tunnel` with `h2UpgradePolicy: UPGRADE`: a stream for each connection, whose data frames are its bytes.
#[test]
fn tunnels_over_http_2_share_a_connection() {
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    let through = Endpoint::start(move |mut client: Client| {
        if client.0.read_exact(&mut [0; PREFACE_LENGTH]).is_err() {
            return;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        client.send(frame(SETTINGS, 0, 0, &[]));
        while let Ok(read) = Frame::read(&mut client.0) {
            match read.kind {
                SETTINGS if read.flags & ACK == 0 => _ = client.send(frame(SETTINGS, ACK, 0, &[])),
                HEADERS => _ = client.send(head(read.stream, 0, &[(":status", "200")])),
                DATA => _ = client.send(frame(DATA, read.flags & END_STREAM, read.stream, &read.payload)),
                _ => {}
            }
        }
    });
    let policy = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}, \
                  tunnel: {protocol: CONNECT, targetHost: far.test, targetPort: 443}}";
    let gateway = Gateway::start(&app(&[through.address], policy));
    let mut clients = [gateway.opaque_client(), gateway.opaque_client()];
    for (client, line) in clients.iter_mut().zip(["one\n", "two\n"]) {
        assert_eq!(client.send(line).line(), line.trim_end());
    }
    for client in &mut clients {
        client.0.shutdown(Shutdown::Write).unwrap();
        assert!(client.ends());
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    let url = format!("http://app.example.com:{}/", gateway.opaque);
    let admin = &gateway.interfaces.admin;
    let explained = printed(&["explain", "request", "GET", &url, "--admin", admin]);
    assert!(explained.contains("asked for it by CONNECT in HTTP/2"), "{explained}");
}

/// `tunnel` with `protocol: POST`: the connection is the body of the request and that of the answer.
#[test]
fn connections_are_posted_where_the_rule_says_so() {
    let through = Endpoint::start(|mut client: Client| {
        let head: Vec<_> = (0..4).map(|_| client.line()).collect();
        client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = [client.line(), client.line(), client.line()];
        let told = format!("{} {}\n", head.join("|"), chunk.join("|"));
        client.send(format!("{:x}\r\n{told}\r\n0\r\n\r\n", told.len()));
    });
    let gateway = Gateway::start(&app(
        &[through.address],
        "{tunnel: {protocol: POST, targetHost: far.test, targetPort: 443}}",
    ));
    let told = gateway.opaque_client().send("hello\n").line();
    assert_eq!(told, "POST / HTTP/1.1|host: far.test:443|transfer-encoding: chunked| 6|hello|");
}
