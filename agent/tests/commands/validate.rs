//! `validate`: what it prints, in which order, and what its exit code says.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::support::{agent, text};

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

#[test]
fn files_that_are_not_looked_at_are_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: a.com, \
                trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /nonexistent/ca.pem}}}}";
    for (yaml, is_named) in [(rule, true), (GOOD, false)] {
        fs::write(&file, yaml).unwrap();
        let checked = agent(&["validate", "--fail-on", "error", file.to_str().unwrap()]);
        let log = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(log.contains("first=\"/nonexistent/ca.pem\" files=1"), is_named, "{log}");
        assert_eq!(checked.status.code(), Some(0), "{log}");
    }
}

/// Values one past a limit, and the last ones within.
#[test]
fn limits_of_values_are_told_with_the_place() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.yaml");
    let of = |kind: &str, spec: &str| {
        let yaml = format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: x, namespace: default}}\nspec: {{{spec}}}\n"
        );
        fs::write(&file, yaml).unwrap();
        text(&agent(&["validate", file.to_str().unwrap()]))
    };
    let rule = |rule: &str| of("VirtualService", &format!("hosts: [a.com], http: [{{{rule}}}]"));
    let regex = |length: usize| {
        rule(&format!(
            "match: [{{uri: {{regex: '{}'}}}}], directResponse: {{status: 200}}",
            "a".repeat(length)
        ))
    };
    assert!(regex(1024).contains("0 errors, 0 warnings"), "{}", regex(1024));
    assert!(
        regex(1025).contains("uri.regex: has a length out of range (found `1025 bytes`"),
        "{}",
        regex(1025)
    );
    let answer = |length: usize| {
        rule(&format!("directResponse: {{status: 200, body: {{string: '{}'}}}}", "a".repeat(length)))
    };
    assert!(answer(100 << 10).contains("0 errors, 0 warnings"), "{}", answer(100 << 10));
    assert!(answer((100 << 10) + 1).contains("0 errors, 1 warning"), "{}", answer((100 << 10) + 1));
    assert!(answer(1 << 20).contains("0 errors, 1 warning"), "{}", answer(1 << 20));
    assert!(answer((1 << 20) + 1).contains("1 error, "), "{}", answer((1 << 20) + 1));
    for name in ["Host", "host", ":authority", ":path"] {
        let said = rule(&format!(
            "route: [{{destination: {{host: a.com}}}}], headers: {{request: {{remove: ['{name}']}}}}"
        ));
        assert!(said.contains("headers.request.remove[0]") && said.contains("1 error, "), "{name}: {said}");
    }
    for code in [300, 304, 305] {
        let said = rule(&format!("redirect: {{uri: /, redirectCode: {code}}}"));
        assert!(said.contains("redirectCode") && said.contains("1 error, "), "{code}: {said}");
    }
    let hosts = |count: usize| {
        let hosts: Vec<_> = (0..count).map(|n| format!("a{n}.com")).collect();
        let port = "ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS";
        of("ServiceEntry", &format!("hosts: [{}], {port}", hosts.join(", ")))
    };
    assert!(hosts(256).contains("0 errors, 0 warnings"), "{}", hosts(256));
    assert!(hosts(257).contains("spec.hosts") && hosts(257).contains("1 error, "), "{}", hosts(257));
}

#[test]
fn mesh_wide_settings_are_checked_as_a_proxy_would() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("mesh.yaml");
    let told = |contents: &str, arguments: &[&str]| {
        fs::write(&file, contents).unwrap();
        let all = [&["validate"], arguments, &[file.to_str().unwrap()]].concat();
        let output = agent(&all);
        (output.status.code(), text(&output))
    };
    let flag = &["--mesh-config"][..];
    assert_eq!(
        told("accessLogFile: /dev/stdout\n", flag),
        (Some(0), "1 file: 0 errors, 0 warnings\n".to_owned())
    );
    let (code, said) = told("accesLogFile: /dev/stdout\n", flag);
    assert!(code == Some(3) && said.contains("did you mean `accessLogFile`?"), "{said}");
    let (code, said) = told("a: 1\naccessLogFormat: \"%NOPE%\\n\"\n", flag);
    assert!(
        code == Some(3)
            && said
                .contains("mesh.yaml:2:18: MeshConfig: accessLogFormat: has the unknown operator `%NOPE%`"),
        "{said}"
    );
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
               accessLogFormat: '%NOPE%'\n";
    for arguments in [flag, &[]] {
        let (code, said) = told(map, arguments);
        assert!(code == Some(3) && said.contains("has the unknown operator `%NOPE%`"), "{said}");
    }
}
