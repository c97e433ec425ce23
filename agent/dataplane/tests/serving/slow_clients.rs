//! Clients that say a little from time to time: they have no more time than those that say nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use dataplane::Settings;

use crate::{
    floods::{PING, frame, greeted, said_goodbye},
    support::{Client, PATIENCE, Proxy, Upstream, gateway_draft, sidecar_draft},
};

fn impatient() -> Settings {
    let limit = Duration::from_secs(1);
    Settings { head_timeout: limit, handshake_timeout: limit, ..Settings::default() }
}

/// Sends twice as much each time until the proxy says or does something; what it said.
fn told_meanwhile(mut client: Client, head: &[u8]) -> String {
    client.0.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut sent = 0;
    // A dozen pieces, far fewer of which come within the time of one.
    while sent < head.len() - 1 {
        let next = (2 * sent).clamp(1, head.len() - 1);
        client.send(&head[sent..next]);
        sent = next;
        // Ends with an error as long as nothing comes.
        let mut answer = Vec::new();
        if client.0.read_to_end(&mut answer).is_ok() {
            return String::from_utf8(answer).unwrap();
        }
    }
    panic!("still waited for after {sent} bytes");
}

#[test]
fn a_head_in_pieces_has_the_time_of_one() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(impatient(), |address| gateway_draft(address, &[upstream.address]));
    let head = format!("GET / HTTP/1.1\r\nhost: test\r\nx-long: {}\r\n\r\n", "x".repeat(4000));
    let answer = told_meanwhile(proxy.connect(), head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn pings_keep_no_http_2_connection_however_they_are_cut() {
    let limit = Duration::from_secs(2);
    let settings = Settings { keep_alive: limit, idle_timeout: limit, ..Settings::default() };
    let proxy = Proxy::start(settings, |address| gateway_draft(address, &[]));
    let mut stream = greeted(&proxy);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let ping = frame(PING, 0, 0, &[0; 8]);
    let start = Instant::now();
    let (mut told, mut pieces) = (Vec::new(), [&ping[..5], &ping[5..]].into_iter().cycle());
    // It is told to go, and closed although it does not.
    loop {
        assert!(start.elapsed() < PATIENCE, "still open: {:?}", said_goodbye(&told));
        _ = stream.write_all(pieces.next().unwrap());
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => told.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert_eq!(said_goodbye(&told), Some(0));
    assert!(start.elapsed() >= 2 * limit, "{:?}", start.elapsed());
}

#[test]
fn whoever_takes_too_long_to_say_what_it_speaks_is_closed() {
    static SILENT: OnceLock<SocketAddr> = OnceLock::new();
    let silent = Upstream::start(|mut client| _ = client.rest_or_reset());
    SILENT.set(silent.address).unwrap();
    let settings = Settings { original_destination: |_| Ok(SILENT.get().copied()), ..impatient() };
    let proxy = Proxy::start(settings, |address| sidecar_draft(address, &[]));
    for begun in [&b"\x16"[..], b"GET / HT", b"PRI * HT"] {
        let mut client = proxy.connect();
        let start = Instant::now();
        assert_eq!(client.send(begun).rest(), b"", "{}", begun.escape_ascii());
        assert!(start.elapsed() > Duration::from_millis(900), "{}", begun.escape_ascii());
    }
    // Who has said nothing has all the time it wants.
    let mut client = proxy.connect();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(client.get("/").status(), "503");
}
