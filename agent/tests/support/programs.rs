//! Programs that run to their end: ours, and other people's.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// Runs a command of the program.
pub(crate) fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postern-agent"))
        .args(arguments)
        .env_remove("POD_NAMESPACE")
        .output()
        .unwrap()
}

/// What a command of the program prints when all is well.
pub(crate) fn printed(arguments: &[&str]) -> String {
    let output = agent(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether there is a program here, and says so where there is none.
pub(crate) fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    let found = command.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skip(&format!("there is no {program} here"));
    }
    found
}

/// Says that a test is skipped, and why, unless nothing that other people wrote may be missing (`REQUIRE_PEERS=1`).
pub(crate) fn skip(why: &str) {
    assert!(
        std::env::var("REQUIRE_PEERS").as_deref() != Ok("1"),
        "{why}, and REQUIRE_PEERS=1 forbids to skip"
    );
    eprintln!("skipped: {why}");
}

/// All that a program has printed.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `openssl` with arguments split at spaces in a directory.
pub(crate) fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{arguments}: {}", text(&output));
}
