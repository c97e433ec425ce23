//! The HTTP/2 conformance suite h2spec against a running gateway.

use std::{
    env,
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
};

use crate::gateway::Gateway;

/// The one case that fails: a port that also speaks HTTP/1.1 answers what is no preface with 400 and closes, which the
/// suite takes for a broken frame.
const FAILING: &str = "\u{d7} 2: Sends invalid connection preface";

#[test]
fn h2spec_finds_only_what_is_known() {
    let program = env::var("H2SPEC").unwrap_or_else(|_| "h2spec".to_owned());
    let gateway = Gateway::start(upstream(), "http");
    let run = Command::new(&program)
        .args(["-h", "127.0.0.1", "-p", &gateway.port.to_string(), "-o", "5", "--strict"])
        .output();
    let Ok(output) = run else {
        eprintln!("skipped: there is no `{program}`; H2SPEC may name it");
        return;
    };
    let report = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = report.lines().map(str::trim).filter(|line| line.starts_with('\u{d7}')).collect();
    assert_eq!(failed, [FAILING], "{report}");
    assert!(report.contains(" 1 failed"), "{report}");
}

/// Answers every request of a connection with a small body.
pub(crate) fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut seen = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    seen.push(byte[0]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
                    }
                }
            });
        }
    });
    port
}
