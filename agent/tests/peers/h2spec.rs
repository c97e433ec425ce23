//! The HTTP/2 conformance suite h2spec against a running gateway.

use std::{env, process::Command};

use super::gateway::Gateway;
use crate::support::{Endpoint, skip};

/// A port that also speaks HTTP/1.1 answers what is no preface with 400 and closes, as Envoy's does, which the suite
/// takes for a broken frame.
const NO_PREFACE: &str = "\u{d7} 2: Sends invalid connection preface";

#[test]
fn h2spec_finds_only_what_is_known_in_clear_text() {
    run(Gateway::start(upstream(), "http").port, &[], &[NO_PREFACE]);
}

#[test]
fn h2spec_finds_nothing_over_tls() {
    run(Gateway::start(upstream(), "http").https, &["-t", "-k"], &[]);
}

/// Runs the suite against a port and compares the cases that fail.
fn run(port: u16, flags: &[&str], failing: &[&str]) {
    let program = env::var("H2SPEC").unwrap_or_else(|_| "h2spec".to_owned());
    let port = port.to_string();
    let run = Command::new(&program)
        .args(["-h", "127.0.0.1", "-p", &port, "-o", "5", "--strict"])
        .args(flags)
        .output();
    let Ok(output) = run else {
        skip(&format!("there is no `{program}`; H2SPEC may name it"));
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = report.lines().map(str::trim).filter(|line| line.starts_with('\u{d7}')).collect();
    assert_eq!(failed, failing, "{report}");
    assert!(report.contains(&format!(" {} failed", failing.len())), "{report}");
}

/// Answers every request with a small body, once all of it is there: an answer that comes before the suite has sent its
/// broken frame ends the request that the frame belongs to.
pub(crate) fn upstream() -> u16 {
    Endpoint::named("hello").port()
}
