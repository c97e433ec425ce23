//! HTTP/2 clients that ask and never read: what they leave with the proxy is bounded.

use std::{
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use dataplane::Settings;
use snapshot::{PathMatch, RouteAction};

use crate::{
    floods::{END_HEADERS, END_STREAM, GET, HEADERS, SETTINGS, frame, greeted, head},
    support::{Proxy, gateway_draft, route, route_config},
};

const REQUESTS: u32 = 1000;
/// A third of what these requests would hold at 256 KiB each; other tests grow, too.
const ROOM: usize = 100 * 1024;

/// KiB of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A proxy that answers with a megabyte of its own.
fn answering_at_length() -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let answer = RouteAction::DirectResponse { status: 200, body: "a".repeat(1024 * 1024) };
        let mut draft = gateway_draft(address, &[]);
        draft.route_configs = vec![route_config("*", vec![route(PathMatch::Any, answer)])];
        draft
    })
}

/// A client that says how much it may be sent of one answer and of all, and asks.
fn asks(proxy: &Proxy, (one, all): (u32, u32)) -> TcpStream {
    const INITIAL_WINDOW_SIZE: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    let mut stream = greeted(proxy);
    let window = [&[0, INITIAL_WINDOW_SIZE][..], &one.to_be_bytes()].concat();
    stream.write_all(&frame(SETTINGS, 0, 0, &window)).unwrap();
    if all > 0 {
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &all.to_be_bytes())).unwrap();
    }
    for request in 0..REQUESTS {
        let asking = frame(HEADERS, END_STREAM | END_HEADERS, 2 * request + 1, &head(GET));
        stream.write_all(&asking).unwrap();
    }
    stream
}

fn grows_little_while_nobody_reads(windows: (u32, u32)) {
    let proxy = answering_at_length();
    let before = resident();
    let client = asks(&proxy, windows);
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let grown = resident().saturating_sub(before);
        assert!(grown < ROOM, "{grown} KiB for answers that nobody reads");
        thread::sleep(Duration::from_millis(100));
    }
    drop(client);
    assert_eq!(proxy.connect().get("/").status(), "200");
}

#[test]
fn answers_without_a_window_wait_outside_the_codec() {
    grows_little_while_nobody_reads((0, 0));
}

#[test]
fn answers_with_any_window_are_made_as_they_are_read() {
    grows_little_while_nobody_reads((0x7fff_ffff, 0x7000_0000));
}
