//! Watching: whatever is taken away comes back, or is reported, and stopping is clean.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{BINARY, Namespace, injected, namespace_or_skip};

/// A watcher; stopped when dropped.
pub(crate) struct Watcher {
    child: Child,
}

impl Watcher {
    pub(crate) fn start(namespace: &Namespace, more: &[&str]) -> Self {
        let arguments = [&["watch", "--interval", "60s"], &injected(&["--ipv6", "on"])[..], more].concat();
        let child = namespace.command(BINARY, &arguments).stderr(Stdio::piped()).spawn().unwrap();
        Self { child }
    }

    /// Reads the log until a line contains `text`.
    pub(crate) fn says(&mut self, text: &str) {
        let mut log = BufReader::with_capacity(1, self.child.stderr.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the watcher ended without saying `{text}`");
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries until it holds, for at most ten seconds.
pub(crate) fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within ten seconds");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_in_sync(namespace: &Namespace) -> bool {
    namespace.init(&[&["check"], &injected(&["--ipv6", "on"])[..]].concat()).code == 0
}

#[test]
fn what_is_taken_away_comes_back_without_waiting_for_the_clock() {
    let namespace = namespace_or_skip!();
    let mut watcher = Watcher::start(&namespace, &[]);
    watcher.says("put right");
    assert!(is_in_sync(&namespace));
    for damage in
        ["iptables -t nat -F ISTIO_OUTPUT", "ip6tables -t nat -D OUTPUT -j ISTIO_OUTPUT", "nft flush ruleset"]
    {
        namespace.shell(damage);
        until(|| is_in_sync(&namespace));
    }
}

#[test]
fn differences_are_only_reported_when_told_so() {
    let namespace = namespace_or_skip!();
    namespace.init(&injected(&["--ipv6", "on"])).ok();
    let mut watcher = Watcher::start(&namespace, &["--reconcile=false"]);
    watcher.says("watching");
    namespace.shell("iptables -t nat -D ISTIO_OUTPUT -j ISTIO_REDIRECT");
    watcher.says("- -j ISTIO_REDIRECT");
    assert!(!is_in_sync(&namespace));
}

#[test]
fn the_figures_can_be_asked_for() {
    let namespace = namespace_or_skip!();
    let mut watcher = Watcher::start(&namespace, &["--metrics-address", "127.0.0.1:15099"]);
    watcher.says("put right");
    let text = namespace.ask("get 127.0.0.1:15099 /metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in ["postern_init_in_sync 1", "postern_init_drifts_total 1", "postern_init_repairs_total 1"] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in {text}");
    }
    assert!(namespace.ask("get 127.0.0.1:15099 /").starts_with("HTTP/1.1 404"));
}

#[test]
fn being_asked_to_stop_is_success_and_leaves_the_rules() {
    let namespace = namespace_or_skip!();
    let mut watcher = Watcher::start(&namespace, &["--metrics-address", "127.0.0.1:0"]);
    watcher.says("put right");
    let pid = watcher.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(watcher.child.wait().unwrap().success());
    assert!(is_in_sync(&namespace));
}

/// Part of the test program: one request, and everything that comes back.
pub(crate) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
