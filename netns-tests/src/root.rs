//! Decides whether this process may build networks, and says aloud when it may not.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Returns early from a test when this process may not make network namespaces.
///
/// The test then passes with a line `skipped: <test> needs root …` on stderr. With `REQUIRE_NETNS=1` in the
/// environment it panics instead, so that an automatic run cannot mistake a skip for a pass.
#[macro_export]
macro_rules! needs_root {
    () => {
        if let Some(reason) = $crate::root::obstacle() {
            $crate::root::skip(&reason);
            return Ok(());
        }
    };
}

/// What keeps this process from building networks: missing privilege or a missing program; `None` when nothing does.
pub fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("root".into());
    }
    // Root of a container may lack CAP_SYS_ADMIN; the only honest question is to try, on a thread that then ends.
    let made = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    if !matches!(made, Ok(Ok(()))) {
        return Some("root with CAP_SYS_ADMIN (network namespaces are refused here)".into());
    }
    ["ip", "iptables-save", "ip6tables-save"]
        .iter()
        .find(|program| !starts(program))
        .map(|program| format!("the program `{program}` (Debian packages: iproute2, iptables)"))
}

/// Reports the skipped test, or panics when `REQUIRE_NETNS=1` forbids skipping.
///
/// # Panics
/// With `REQUIRE_NETNS=1` in the environment.
pub fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("test");
    assert!(
        std::env::var_os("REQUIRE_NETNS").is_none_or(|v| v != "1"),
        "{test} needs {reason}, and REQUIRE_NETNS=1"
    );
    // Straight to the descriptor: what goes through the print macros is swallowed for a test that passes.
    let _ = writeln!(std::io::stderr(), "skipped: {test} needs {reason}");
}

/// Whether `program` can be started here.
pub fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}
