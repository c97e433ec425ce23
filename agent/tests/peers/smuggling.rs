//! Requests that hide another one, sent through the gateway to servers that other people wrote.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use super::{gateway::Gateway, nginx::Nginx, python};
use crate::support::{Client, eventually, free_port};

#[test]
fn nothing_hidden_in_a_request_reaches_nginx() {
    let [before, behind] = [(); 2].map(|()| free_port());
    let gateway = Gateway::start(behind, "http");
    let Some(nginx) = Nginx::start(&gateway, [before, behind]) else { return };
    attempt(gateway.port, || nginx.seen());
}

#[test]
fn nothing_hidden_in_a_request_reaches_the_http_server_of_python() {
    let Some(python) = python("http.server") else { return };
    let upstream = free_port();
    let gateway = Gateway::start(upstream, "http");
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let mut server = Command::new(python)
        .arg("-B")
        .arg(format!("{}/tests/peers/http_seen.py", env!("CARGO_MANIFEST_DIR")))
        .arg(upstream.to_string())
        .stdout(File::create(&seen).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    gateway.await_port(upstream);
    attempt(gateway.port, || fs::read_to_string(&seen).unwrap());
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Sends every attempt, and reads in the server's log, a request line for each, what became of them.
fn attempt(port: u16, seen: impl Fn() -> String) {
    for (number, refused) in REFUSED.iter().enumerate() {
        let answer = ask(port, &format!("POST /attempt/refused-{number} HTTP/1.1\r\nhost: a\r\n{refused}"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{refused:?}: {answer}");
    }
    for (number, chunks) in CHUNKS.iter().enumerate() {
        let head = format!("POST /attempt/chunks-{number} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked");
        // The head is passed on before the chunks are seen, and the server may have answered it.
        ask(port, &format!("{head}\r\n\r\n{chunks}"));
    }
    for (number, carried) in CARRIED.iter().enumerate() {
        let head = format!("POST /attempt/carried-{number} HTTP/1.1\r\nhost: a\r\nconnection: close");
        let answer = ask(port, &format!("{head}\r\n{carried}"));
        let last = answer.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        assert!(last.starts_with("HTTP/1.1 200 "), "{carried:?}: {answer}");
    }
    // What follows a request that is what it seems is one, and would be seen.
    let open = "POST /attempt/open HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    Client::local(port)
        .send(open.to_owned() + "GET /attempt/last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .rest();
    eventually("the last request is seen", || seen().contains("/attempt/last "));
    let seen = seen();
    let times = |path: &str| seen.lines().filter(|line| line.contains(&format!(" /attempt/{path} "))).count();
    assert_eq!(seen.matches("hidden").count(), 0, "{seen}");
    assert_eq!(seen.matches("refused").count(), 0, "{seen}");
    assert!((0..CHUNKS.len()).all(|number| times(&format!("chunks-{number}")) <= 1), "{seen}");
    assert!((0..CARRIED.len()).all(|number| times(&format!("carried-{number}")) == 1), "{seen}");
    assert_eq!(times("open"), 1, "{seen}");
}

/// What comes back until the connection ends, for a request with another behind it.
fn ask(port: u16, request: &str) -> String {
    let hidden = "GET /attempt/hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = Client::local(port).send(request.to_owned() + hidden).rest();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Fields whose body ends at different places for different readers.
const REFUSED: &[&str] = &[
    "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "content-length: 0\r\ncontent-length: 41\r\n\r\n",
    "content-length: 0, 41\r\n\r\n",
    "content-length: +41\r\n\r\n",
    "content-length: 0x0\r\n\r\n",
    "content-length : 41\r\n\r\n",
    "x: 1\ncontent-length: 41\r\n\r\n",
    "x: 1\rcontent-length: 41\r\n\r\n",
    "x: 1\r\n content-length: 41\r\n\r\n",
    "content-length:\r\n 41\r\n\r\n",
    "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding\r\n: chunked\r\n\r\n0\r\n\r\n",
];

/// Chunks that end at different places for different readers.
const CHUNKS: &[&str] = &[
    "0\n\r\n",
    "0\r\n\n",
    "0x0\r\n\r\n",
    "-0\r\n\r\n",
    "+0\r\n\r\n",
    " 0\r\n\r\n",
    "10000000000000000\r\n\r\n",
    "1_0\r\n\r\n",
    "1\r\naX0\r\n\r\n",
    "1\r\na0\r\n\r\n",
    "1;x=\"\n\"\r\na\r\n0\r\n\r\n",
    "0;\rx\r\n\r\n",
    "0\r\ncontent-length : 41\r\n\r\n",
];

/// Requests whose body holds a request: it passes as the body.
const CARRIED: &[&str] = &[
    "content-length: 41\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n30\r\nGET /attempt/hidden HTTP/1.1\r\nhost: a\r\nx: 12\r\n\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n0;a=b\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 41\r\n\r\n",
    "connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n",
    "expect: 100-continue\r\ncontent-length: 41\r\n\r\n",
];
