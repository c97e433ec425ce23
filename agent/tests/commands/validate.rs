//! `validate`: what it prints, in which order, and what its exit code says.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::agent;

const DOUBTFUL: &str =
    "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{name: web, port: 80}]}}";
const WRONG: &str = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {ports: [{port: 0}]}}";
const GOOD: &str = "{apiVersion: v1, kind: Service, metadata: {name: c}, spec: {ports: [{port: 80}]}}";

#[test]
fn the_exit_code_says_how_bad_it_is() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let code = |text: &str, arguments: &[&str]| {
        fs::write(&file, text).unwrap();
        let all = [&["validate", file.to_str().unwrap()], arguments].concat();
        agent(&all).status.code()
    };
    for (text, by_default, on_error) in [(GOOD, 0, 0), (DOUBTFUL, 3, 0), (WRONG, 3, 3)] {
        assert_eq!(code(text, &[]), Some(by_default), "{text}");
        assert_eq!(code(text, &["--fail-on", "warning"]), Some(by_default), "{text}");
        assert_eq!(code(text, &["--fail-on", "error"]), Some(on_error), "{text}");
    }
    assert_eq!(code(GOOD, &["--fail-on", "anything"]), Some(2));
}

#[test]
fn files_come_in_the_order_in_which_they_are_named() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("a.yaml"), DOUBTFUL).unwrap();
    fs::write(path("z.yaml"), WRONG).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
        .args(["validate", "-o", "gcc", &path("z.yaml"), "-", &path("a.yaml")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(WRONG.replace("name: b", "name: s").as_bytes()).unwrap();
    let printed = String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap();
    let names: Vec<_> = printed.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, [path("z.yaml").as_str(), "stdin", &path("a.yaml")]);
}
