//! Clients that mean harm, in raw bytes: the memory of the program stays within what is written down, they are sent
//! away with a reason in the log, and others are served.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::support::{Agent, Endpoint, Setup, free_port, gateway, service, virtual_service};

/// A gateway with an endpoint that answers `/endless` without end and everything else with `ok`.
struct Gateway {
    agent: Agent,
    port: u16,
}

impl Gateway {
    fn start() -> Self {
        Self::with("")
    }

    /// The same with a rule before the one for all requests.
    fn with(rule: &str) -> Self {
        let port = free_port();
        let resources = [
            gateway("gw", port, "HTTP", ""),
            virtual_service(
                "all",
                &format!(
                    "hosts: ['*'], gateways: [gw], http: [{rule}{{route: [{{destination: {{host: app}}}}]}}]"
                ),
            ),
            service("app", &endpoint()),
        ];
        let agent = Setup::router()
            .resources("all.yaml", &resources.join("---\n"))
            .mesh("accessLogFile: /dev/stdout\n")
            .start();
        agent.await_port(port);
        let gateway = Self { agent, port };
        // What is made once.
        (0..20).for_each(|_| gateway.serves());
        gateway
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A client that has greeted in HTTP/2.
    fn greeted(&self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        stream
    }

    fn serves(&self) {
        let mut client = self.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }

    /// Runs an attack, which makes the program hold no more than so many KiB, and is told of in one line with `words`.
    fn withstands<H>(&self, attack: impl FnOnce() -> H, most: usize, words: &[&str]) {
        let before = self.agent.memory();
        let held = attack();
        let more = self.agent.memory().saturating_sub(before);

        assert!(more < most, "{words:?}: {more} KiB more");
        if !words.is_empty() {
            self.agent.access_line(words);
        }
        self.serves();
        drop(held);
    }
}

fn endpoint() -> Endpoint {
    Endpoint::start(|mut client| {
        while let Ok(request) = client.message() {
            if request.asks_for() == "GET /endless" {
                client.send(b"HTTP/1.1 200 OK\r\n\r\n");
                while client.0.write_all(&[b'x'; 100_000]).is_ok() {}
                return;
            }
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}

/// Writes until the peer has had enough; panics when it never has.
fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    let had_enough = (0..20_000).any(|_| stream.write_all(bytes).is_err());
    assert!(had_enough, "nobody minds");
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET` or `POST` of a path, to `test`.
fn head(method: u8, path: &str) -> Vec<u8> {
    let path = [&[0x44, u8::try_from(path.len()).unwrap()], path.as_bytes()].concat();
    [&[method, 0x86], &path[..], &[0x41, 4], b"test"].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;
/// A field that no table remembers.
const FIELD: &[u8] = b"\x00\x01a\x01b";
const INITIAL_WINDOW_SIZE: u8 = 4;
const MEBIBYTE: usize = 1024;

#[test]
fn floods_of_frames_are_ended_with_a_reason() {
    let gateway = Gateway::start();
    let resets = || {
        let mut client = gateway.greeted();
        let pair = |id| {
            let request = frame(HEADERS, END_STREAM | END_HEADERS, id, &head(GET, "/"));
            [request, frame(RST_STREAM, 0, id, &8u32.to_be_bytes())].concat()
        };
        let ended = (0..100_000).any(|id| client.write_all(&pair(2 * id + 1)).is_err());
        assert!(ended, "nobody minds");
    };
    gateway.withstands(resets, 4 * MEBIBYTE, &[" 0 DPE http2.flood ", "excessive_load"]);
    let continuations = || {
        let mut client = gateway.greeted();
        client.write_all(&frame(HEADERS, END_STREAM, 1, &head(GET, "/"))).unwrap();
        flood(&mut client, &frame(CONTINUATION, 0, 1, FIELD).repeat(1000));
    };
    gateway.withstands(continuations, 4 * MEBIBYTE, &[" 0 DPE http2.flood ", "excessive_load"]);
    let log = gateway.agent.log();
    assert!(!log.contains("WARN"), "clients write to the log at will: {log}");
}

#[test]
fn heads_and_trailers_without_end_are_refused() {
    let gateway = Gateway::start();
    let endless_head = || {
        let mut client = gateway.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap();
        flood(&mut client, &b"x-more: more\r\n".repeat(1000));
    };
    gateway.withstands(endless_head, 2 * MEBIBYTE, &[" 431 DPE http1.too_many_headers "]);
    // One field of 4,000 bytes into the table, then named by one byte each: 12 MB unpacked, of 200 requests each.
    let bomb = || {
        let mut client = gateway.greeted();
        let field = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'x'; 4000], &[0xbe; 3000]].concat();
        for id in 0..200 {
            let block = [head(GET, "/"), field.clone()].concat();
            _ = client.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * id + 1, &block));
        }
        client
    };
    gateway.withstands(bomb, 8 * MEBIBYTE, &[]);
    let endless_trailers = || {
        let mut client = gateway.connect();
        client
            .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n")
            .unwrap();
        flood(&mut client, &b"x-more: more\r\n".repeat(1000));
    };
    gateway.withstands(endless_trailers, 2 * MEBIBYTE, &["POST / HTTP/1.1", " DPE http1.codec_error "]);
    let endless_trailers = || {
        let mut client = gateway.greeted();
        let request = [
            frame(HEADERS, END_HEADERS, 1, &head(POST, "/")),
            frame(DATA, 0, 1, b"hi"),
            frame(HEADERS, END_STREAM, 1, FIELD),
        ];
        client.write_all(&request.concat()).unwrap();
        flood(&mut client, &frame(CONTINUATION, 0, 1, FIELD).repeat(1000));
    };
    gateway.withstands(endless_trailers, 4 * MEBIBYTE, &[" 0 DPE http2.flood ", "excessive_load"]);
}

/// Clients that begin and do not go on, and clients that never read: each may make the program hold what
/// docs/operations.md says, one buffer of 64 KiB at most for each answer.
#[test]
fn who_does_not_go_on_holds_little() {
    const CLIENTS: usize = 200;
    let gateway = Gateway::start();
    let slow = || {
        let begun = |_| {
            let mut client = gateway.connect();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-a: ").unwrap();
            client.write_all(&[b'a'; 1000]).unwrap();
            client
        };
        let clients: Vec<_> = (0..CLIENTS).map(begun).collect();
        thread::sleep(Duration::from_secs(1));
        clients
    };
    gateway.withstands(slow, CLIENTS * 24, &[]);
    let deaf = || {
        let asked = |_| {
            let mut client = gateway.connect();
            client.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            client
        };
        let clients: Vec<_> = (0..CLIENTS / 4).map(asked).collect();
        thread::sleep(Duration::from_secs(3));
        clients
    };
    gateway.withstands(deaf, CLIENTS / 4 * 96 + MEBIBYTE, &[]);
    let deaf = || {
        let mut client = gateway.greeted();
        let asked = |id| frame(HEADERS, END_STREAM | END_HEADERS, 2 * id + 1, &head(GET, "/endless"));
        client.write_all(&(0..100_u32).flat_map(asked).collect::<Vec<_>>()).unwrap();
        thread::sleep(Duration::from_secs(3));
        client
    };
    gateway.withstands(deaf, 256 + 100 * 96 + MEBIBYTE, &[]);
}

/// Answers of the proxy's own, to who may be sent of each and of all what `windows` says: nothing, or everything. A third
/// of what these would hold if each were made before it is read.
#[test]
fn answers_that_nobody_reads_are_made_as_they_are_read() {
    const REQUESTS: u32 = 1000;
    let long = "a".repeat(1024 * 1024);
    let rule = "match: [{uri: {exact: /long}}], directResponse: {status: 200, body: {string: ";
    let gateway = Gateway::with(&format!("{{{rule}{long}}}}}}}, "));
    for (one, all) in [(0_u32, 0_u32), (0x7fff_ffff, 0x7000_0000)] {
        let deaf = || {
            let mut client = gateway.greeted();
            let window = [&[0, INITIAL_WINDOW_SIZE][..], &one.to_be_bytes()].concat();
            client.write_all(&frame(SETTINGS, 0, 0, &window)).unwrap();
            if all > 0 {
                client.write_all(&frame(WINDOW_UPDATE, 0, 0, &all.to_be_bytes())).unwrap();
            }
            for request in 0..REQUESTS {
                let asked = frame(HEADERS, END_STREAM | END_HEADERS, 2 * request + 1, &head(GET, "/long"));
                client.write_all(&asked).unwrap();
            }
            thread::sleep(Duration::from_secs(3));
            client
        };
        gateway.withstands(deaf, 100 * MEBIBYTE, &[]);
    }
}
