//! The program as a gateway with certificates on disk, asked by curl and openssl.

mod bad_input;
mod documents;
mod gateway;
mod hostile;
mod load;
mod outdated;
mod sessions;

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
};

use self::gateway::Gateway;
pub(crate) use self::gateway::write_certificate;
use crate::support::{free_port, has, openssl, service_at, text};

#[test]
fn curl_gets_the_certificate_and_the_protocol_it_asks_for() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    let version = ["-w", " %{http_version}"];
    for (host, trusted, more, expected) in [
        ("a.com", "a", &["--http1.1"][..], "https 1.1"),
        ("b.com", "b", &["--http2"], "https 2"),
        ("a.com", "a", &["--tlsv1.3"], "https 2"),
        ("s.com", "s", &[], "https 2"),
        ("b.com", "b", &["--tls-max", "1.2", "--http1.1"], "https 1.1"),
    ] {
        let output = gateway.curl(&gateway.https_url(host), trusted, &[&version[..], more].concat());
        assert_eq!(text(&output), expected, "{host} {more:?}");
    }
    // Each name has its own certificate; a name that nobody serves is closed.
    assert!(!gateway.curl(&gateway.https_url("a.com"), "b", &[]).status.success());
    assert!(!gateway.curl(&gateway.https_url("d.com"), "a", &[]).status.success());
    let redirected = gateway.curl(
        &format!("http://127.0.0.1:{}/x?y", gateway.http),
        "a",
        &["-H", "host: a.com", "-w", "%{http_code} %{redirect_url}"],
    );
    assert_eq!(text(&redirected), format!("301 https://a.com:{}/x?y", gateway.https));
}

#[test]
fn clear_text_where_only_tls_is_served_is_named() {
    let gateway = Gateway::start();
    let mut client = std::net::TcpStream::connect(("127.0.0.1", gateway.https)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").unwrap();
    // Closed, or reset for what was not read.
    _ = client.read_to_end(&mut Vec::new());
    let told = gateway.log_line(&["clear text refused"]);
    let downstream = format!("downstream={}", client.local_addr().unwrap());
    assert!(told.contains(&downstream) && !told.contains("STRICT"), "{told}");
}

#[test]
fn tls_where_only_clear_text_is_served_is_named() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    let resolve = format!("a.com:{}:127.0.0.1", gateway.http);
    let refused = gateway.curl(&format!("https://a.com:{}/", gateway.http), "a", &["--resolve", &resolve]);
    assert!(!refused.status.success(), "{refused:?}");
    let told = gateway.log_line(&["TLS refused: HTTP is served in clear text here"]);
    assert!(told.contains(&format!("destination=127.0.0.1:{}", gateway.http)), "{told}");
    // Other junk is not taken for it.
    let mut client = std::net::TcpStream::connect(("127.0.0.1", gateway.http)).unwrap();
    client.write_all(b"\x16\x16\r\n\r\n").unwrap();
    let mut answer = String::new();
    _ = client.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(gateway.log().matches("TLS refused").count(), 1, "{}", gateway.log());
}

#[test]
fn tls_where_there_is_tls_already_or_none_is_named_with_the_rule_that_asks_for_it() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    let clear = free_port();
    let log = gateway.log();
    assert!(!log.contains("double TLS") && !log.contains("answers in clear text"), "{log}");
    let rule = |name: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}-rule}}\n\
             spec: {{host: {name}, trafficPolicy: {{tls: {{mode: SIMPLE, sni: a.com, insecureSkipVerify: true}}}}}}\n---\n"
        )
    };
    // The port of clear text answers a client hello with 400.
    let resources = format!(
        "{}{}apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: clear}}\nspec:\n  servers:\n  \
         - {{port: {{number: {clear}, name: http, protocol: HTTP}}, hosts: [clear.com]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: clear}}\n\
         spec: {{hosts: [clear.com], gateways: [clear], http: [{{route: [{{destination: {{host: clear}}}}]}}]}}\n---\n{}",
        rule("own"),
        rule("clear"),
        service_at("clear", ("http", 80), gateway.http),
    );
    gateway.replace("wrong.yaml", &resources);
    gateway.await_port(clear);
    let doubled =
        gateway.curl("https://a.com/", "a", &["--connect-to", &format!("::127.0.0.1:{}", gateway.through)]);
    assert!(!text(&doubled).starts_with("https"), "{doubled:?}");
    let refused = gateway.curl(
        &format!("http://127.0.0.1:{clear}/"),
        "a",
        &["-H", "host: clear.com", "-w", " %{http_code}"],
    );
    assert!(text(&refused).ends_with(" 503"), "{refused:?}");
    for (what, rule) in [("double TLS", "default/own-rule"), ("answers in clear text", "default/clear-rule")]
    {
        gateway.log_line(&[what, "WARN", rule, "set `tls.mode: DISABLE`"]);
    }
}

#[test]
fn a_key_that_does_not_belong_costs_its_own_server_and_is_named() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    assert!(!gateway.curl(&gateway.https_url("c.com"), "c", &[]).status.success());
    assert_eq!(text(&gateway.curl(&gateway.https_url("a.com"), "a", &[])), "https");
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("key does not match certificate")).unwrap();
    assert!(line.contains("Gateway default/gw: spec.servers[3].tls.privateKey: cannot be used"), "{line}");
    // Nor does the dump tell what a key is.
    let dump = text(&gateway.curl(&format!("http://{}/config_dump", gateway.interfaces.admin), "a", &[]));
    assert!(dump.contains("[redacted]") && dump.contains("file-cert:"), "{dump}");
    let key = fs::read_to_string(gateway.certificates().join("a.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!dump.contains(secret) && !log.contains(secret));
}

#[test]
fn a_certificate_replaced_on_disk_is_for_new_connections() {
    if !has("curl") || !has("openssl") {
        return;
    }
    let gateway = Gateway::start();
    let mut old = Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", "a.com", "-verify_return_error", "-CAfile"])
        .args([&gateway.certificate("a"), "-connect", &format!("127.0.0.1:{}", gateway.https)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ask = || {
        old.stdin.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\nhttps") {
            old.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        answer
    };
    assert!(ask().starts_with(b"HTTP/1.1 200"));
    write_certificate(&gateway.certificates(), "a", "a.com");
    // curl trusts the new certificate only.
    gateway.until("the new certificate", || {
        gateway.curl(&gateway.https_url("a.com"), "a", &[]).status.success()
    });
    assert!(ask().starts_with(b"HTTP/1.1 200"));
    _ = old.kill();
    _ = old.wait();
}

/// What `openssl x509 -req` makes unless it is told extensions.
#[test]
fn a_certificate_of_the_first_version_of_x509_is_served() {
    if !has("openssl") {
        return;
    }
    let gateway = Gateway::start();
    let certificates = gateway.certificates();
    openssl(&certificates, "req -newkey rsa:2048 -nodes -keyout new.key -subj /CN=version-one -out new.csr");
    openssl(&certificates, "x509 -req -in new.csr -signkey new.key -out new.crt");
    fs::rename(certificates.join("new.key"), certificates.join("a.key")).unwrap();
    fs::rename(certificates.join("new.crt"), certificates.join("a.crt")).unwrap();
    let shown = || {
        let output = Command::new("openssl")
            .args(["s_client", "-servername", "a.com", "-connect", &format!("127.0.0.1:{}", gateway.https)])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    gateway.until("the new certificate", || shown().contains("version-one"));
}

#[test]
fn a_client_certificate_is_asked_for_and_judged() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    let shown = |name: &str| {
        let key = gateway.certificates().join(format!("{name}.key")).display().to_string();
        ["--cert".to_owned(), gateway.certificate(name), "--key".to_owned(), key]
    };
    let ask = |name: Option<&str>, more: &[&str]| {
        let shown = name.map(shown).into_iter().flatten().collect::<Vec<_>>();
        let more: Vec<&str> = shown.iter().map(String::as_str).chain(more.iter().copied()).collect();
        gateway.curl(&gateway.https_url("m.com"), "m", &more)
    };
    assert_eq!(text(&ask(Some("client"), &[])), "https");
    for name in [Some("stranger"), None] {
        assert!(!ask(name, &[]).status.success(), "{name:?}");
        // In TLS 1.2 the handshake itself fails, so that curl always sees the alert.
        let refused = ask(name, &["--tls-max", "1.2"]);
        assert!(text(&refused).contains("alert"), "{name:?}: {}", text(&refused));
    }
}

#[test]
fn tls_is_passed_on_unopened_or_opened_to_bytes() {
    if !has("curl") {
        return;
    }
    let gateway = Gateway::start();
    for (host, port) in [("a", gateway.through), ("b", gateway.opened)] {
        let resolve = format!("{host}.com:{port}:127.0.0.1");
        let more = ["--http1.1", "--resolve", &resolve];
        let output = gateway.curl(&format!("https://{host}.com:{port}/"), host, &more);
        // The bytes of b.com reach the endpoint as the client sent them, without a word about the scheme.
        assert_eq!(text(&output), if host == "a" { "https" } else { "-" }, "{}", gateway.log());
    }
}

#[test]
fn a_name_that_nobody_serves_gets_an_alert_for_it() {
    if !has("openssl") {
        return;
    }
    let gateway = Gateway::start();
    let output = Command::new("openssl")
        .args(["s_client", "-servername", "nobody.org", "-connect", &format!("127.0.0.1:{}", gateway.https)])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(text(&output).contains("unrecognized name"), "{}", text(&output));
}
