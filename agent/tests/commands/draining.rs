//! The end of a proxy that is asked to end.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{Running, agent, eventually, printed, shop};

/// A ready gateway with those flags, and its port; the directory may go, what was read is served.
fn gateway(flags: &[&str]) -> (Running, u16) {
    let (directory, port) = shop();
    let running = Running::start_with(directory.path(), flags);
    printed(&["wait", "--timeout", "20s", "--status", &running.status]);
    (running, port)
}

impl Running {
    fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn ready(&self) -> String {
        let output = agent(&["request", "GET", "/ready", "--admin", &self.admin]);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits for its end; the time it took.
    fn ended_within(&mut self, limit: Duration) -> Duration {
        let start = Instant::now();
        eventually("the proxy ends", limit, || {
            self.process.try_wait().unwrap().is_some_and(|status| {
                assert_eq!(status.code(), Some(0));
                true
            })
        });
        start.elapsed()
    }
}

/// The answer to a request on a connection of its own, all that comes until the proxy closes it.
fn answer(port: u16) -> io::Result<String> {
    let mut client = TcpStream::connect(("127.0.0.1", port))?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    client.write_all(format!("GET /gone HTTP/1.1\r\nhost: www.shop.com:{port}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn new_connections_are_served_for_the_minimum_and_not_much_longer() {
    let (mut running, port) = gateway(&["--minimum-drain-duration", "3s"]);
    let asked = Instant::now();
    running.terminate();
    eventually("readiness ends", Duration::from_secs(2), || running.ready().starts_with("DRAINING"));
    while asked.elapsed() < Duration::from_millis(2500) {
        let answer = answer(port).unwrap();
        assert!(answer.starts_with("HTTP/1.1 410 ") && answer.contains("connection: close\r\n"), "{answer}");
        thread::sleep(Duration::from_millis(100));
    }
    running.ended_within(Duration::from_secs(3));
    assert!(asked.elapsed() >= Duration::from_secs(3), "ended after {:?}", asked.elapsed());
    answer(port).unwrap_err();
}

#[test]
fn without_a_minimum_an_idle_proxy_ends_at_once() {
    let (mut running, _) = gateway(&["--minimum-drain-duration", "0"]);
    printed(&["request", "POST", "/quitquitquit", "--admin", &running.admin]);
    running.ended_within(Duration::from_secs(3));
}

#[test]
fn the_minimum_is_no_longer_than_the_drain_duration() {
    let (mut running, _) = gateway(&["--minimum-drain-duration", "1h", "--drain-duration", "1s"]);
    running.terminate();
    let took = running.ended_within(Duration::from_secs(4));
    assert!(took >= Duration::from_millis(900), "ended after {took:?}");
}

#[test]
fn a_second_signal_ends_the_minimum() {
    let (mut running, _) = gateway(&["--minimum-drain-duration", "1h", "--drain-duration", "1h"]);
    running.terminate();
    eventually("readiness ends", Duration::from_secs(2), || running.ready().starts_with("DRAINING"));
    running.terminate();
    running.ended_within(Duration::from_secs(3));
}

#[test]
fn whoever_asks_to_drain_gets_a_proxy_that_serves_on_until_it_is_told_to_end() {
    let (mut running, port) = gateway(&["--minimum-drain-duration", "0"]);
    assert_eq!(printed(&["request", "POST", "/drain", "--admin", &running.agent]), "OK\n");
    eventually("readiness ends", Duration::from_secs(2), || running.ready().starts_with("DRAINING"));
    thread::sleep(Duration::from_secs(2));
    let answer = answer(port).unwrap();
    assert!(answer.starts_with("HTTP/1.1 410 ") && answer.contains("connection: close\r\n"), "{answer}");
    running.terminate();
    running.ended_within(Duration::from_secs(3));
}

#[test]
fn changes_are_followed_while_draining() {
    let (directory, port) = shop();
    let mut running = Running::start_with(directory.path(), &["--minimum-drain-duration", "4s"]);
    printed(&["wait", "--timeout", "20s", "--status", &running.status]);
    running.terminate();
    eventually("readiness ends", Duration::from_secs(2), || running.ready().starts_with("DRAINING"));
    let file = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let changed = fs::read_to_string(&file).unwrap().replace("status: 410", "status: 418");
    fs::write(&file, changed).unwrap();
    eventually("the new rules", Duration::from_secs(3), || {
        answer(port).unwrap().starts_with("HTTP/1.1 418 ")
    });
    running.ended_within(Duration::from_secs(6));
}
