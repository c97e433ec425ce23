//! The end of a proxy that is asked to end.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::shop;
use crate::support::{
    Agent, Client, PATIENCE, agent, eventually,
    http2::{END_STREAM, Frame, GOAWAY, OPENING, head},
    printed,
};

/// A ready gateway with those flags, and its port; the directory may go, what was read is served.
fn gateway(flags: &[&str]) -> (Agent, u16) {
    let (directory, port) = shop();
    let running = super::gateway(directory.path()).flags(flags).start();
    running.await_ready();
    (running, port)
}

fn terminate(running: &Agent) {
    let sent = Command::new("kill").args(["-TERM", &running.process_id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn await_draining(running: &Agent) {
    running.until("readiness ends", || {
        let output = agent(&["request", "GET", "/ready", "--admin", &running.interfaces.admin]);
        output.stdout.starts_with(b"DRAINING")
    });
}

/// The answer to a request on a connection of its own, all that comes until the proxy closes it.
fn answer(port: u16) -> io::Result<String> {
    let mut client = TcpStream::connect(("127.0.0.1", port))?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.write_all(format!("GET /gone HTTP/1.1\r\nhost: www.shop.com:{port}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn new_connections_are_served_for_the_minimum_and_not_much_longer() {
    let (running, port) = gateway(&["--minimum-drain-duration", "6s", "--drain-duration", "1h"]);
    let asked = Instant::now();
    terminate(&running);
    await_draining(&running);
    while asked.elapsed() < Duration::from_millis(2500) {
        let answer = answer(port).unwrap();
        assert!(answer.starts_with("HTTP/1.1 410 ") && answer.contains("connection: close\r\n"), "{answer}");
        thread::sleep(Duration::from_millis(100));
    }
    running.await_end();
    assert!(asked.elapsed() >= Duration::from_secs(6), "ended after {:?}", asked.elapsed());
    answer(port).unwrap_err();
}

#[test]
fn without_a_minimum_an_idle_proxy_ends_at_once() {
    let (running, _) = gateway(&["--minimum-drain-duration", "0", "--drain-duration", "1h"]);
    printed(&["request", "POST", "/quitquitquit", "--admin", &running.interfaces.admin]);
    running.await_end();
}

#[test]
fn the_minimum_is_no_longer_than_the_drain_duration() {
    let (running, _) = gateway(&["--minimum-drain-duration", "1h", "--drain-duration", "1s"]);
    let asked = Instant::now();
    terminate(&running);
    running.await_end();
    assert!(asked.elapsed() >= Duration::from_millis(900), "ended after {:?}", asked.elapsed());
}

#[test]
fn a_second_signal_ends_the_minimum() {
    let (running, _) = gateway(&["--minimum-drain-duration", "1h", "--drain-duration", "1h"]);
    terminate(&running);
    await_draining(&running);
    terminate(&running);
    running.await_end();
}

#[test]
fn whoever_asks_to_drain_gets_a_proxy_that_serves_on_until_it_is_told_to_end() {
    let (running, port) = gateway(&["--minimum-drain-duration", "0"]);
    assert_eq!(printed(&["request", "POST", "/drain", "--admin", &running.interfaces.agent]), "OK\n");
    await_draining(&running);
    thread::sleep(Duration::from_secs(2));
    let answer = answer(port).unwrap();
    assert!(answer.starts_with("HTTP/1.1 410 ") && answer.contains("connection: close\r\n"), "{answer}");
    terminate(&running);
    running.await_end();
}

#[test]
fn changes_are_followed_while_draining() {
    let (directory, port) = shop();
    let running = super::gateway(directory.path())
        .flags(&["--minimum-drain-duration", "1h", "--drain-duration", "1h"])
        .start();
    running.await_ready();
    terminate(&running);
    await_draining(&running);
    let file = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let changed = fs::read_to_string(&file).unwrap().replace("status: 410", "status: 418");
    fs::write(&file, changed).unwrap();
    eventually("the new rules", || answer(port).unwrap().starts_with("HTTP/1.1 418 "));
    terminate(&running);
    running.await_end();
}

/// GOAWAY says so before the connection ends.
#[test]
fn clients_of_http2_are_told_to_ask_elsewhere() {
    let (running, port) = gateway(&["--minimum-drain-duration", "0", "--drain-duration", "1h"]);
    let mut client = Client::local(port);
    let host = format!("www.shop.com:{port}");
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", &*host), (":path", "/gone")];
    client.send([OPENING, &head(1, END_STREAM, &fields)].concat());
    while !Frame::read(&mut client.0).unwrap().ends() {}
    terminate(&running);
    let mut kinds = Vec::new();
    while let Ok(Frame { kind, .. }) = Frame::read(&mut client.0) {
        kinds.push(kind);
    }
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    running.await_end();
}
