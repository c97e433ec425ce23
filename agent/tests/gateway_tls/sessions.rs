//! Sessions that clients resume: with any worker, over changes of the configuration, and never with data ahead of the
//! handshake.

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
};

use rustls::{
    ClientConfig, HandshakeKind, SupportedProtocolVersion,
    client::Resumption,
    version::{TLS12, TLS13},
};

use crate::gateway_tls::bad_input::{gateway, routes};
use crate::support::{
    Agent, Setup,
    authority::{Authority, Issued, ask, connect},
    free_port, has, text,
};

/// Many more than workers: the kernel spreads connections over them.
const CONNECTIONS: usize = 24;

/// A gateway of four workers for `own.test`.
fn start(port: u16, issued: &Issued) -> Agent {
    let setup = Setup::router();
    let certs = setup.certificates();
    fs::write(certs.join("own.crt"), &issued.certificate).unwrap();
    fs::write(certs.join("own.key"), &issued.key).unwrap();
    let path = certs.display();
    let tls = format!("mode: SIMPLE, serverCertificate: {path}/own.crt, privateKey: {path}/own.key");
    let resources = routes(&["own"]) + &gateway("own", port, &format!("tls: {{{tls}}}"));
    let agent = setup.resources("all.yaml", &resources).flags(&["--concurrency", "4"]).start();
    agent.await_port(port);
    agent
}

/// Clients that resume, and would send a request with their hello if they might.
fn resuming(authority: &Authority, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&authority.client_with(&[version], None));
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    Arc::new(config)
}

/// How the handshake of a connection went that is served.
fn handshake(client: &Arc<ClientConfig>, port: u16) -> HandshakeKind {
    let mut connection = connect(client, port, "own.test");
    assert!(connection.conn.early_data().is_none(), "nobody said that it may");
    ask(&mut connection, "own.test").unwrap();
    connection.conn.handshake_kind().unwrap()
}

#[test]
fn sessions_are_resumed_with_any_worker_and_over_changes_of_other_things() {
    let (authority, port) = (Authority::new(), free_port());
    let agent = start(port, &authority.issue("own.test"));
    for version in [&TLS13, &TLS12] {
        let client = resuming(&authority, version);
        assert_eq!(handshake(&client, port), HandshakeKind::Full);
        for index in 0..CONNECTIONS {
            assert_eq!(handshake(&client, port), HandshakeKind::Resumed, "{version:?}, {index}");
        }
        let other = free_port();
        let gateway = gateway("other", other, "tls: {mode: SIMPLE, credentialName: absent}");
        fs::write(agent.directory.path().join("config/other.yaml"), gateway).unwrap();
        agent.await_port(other);
        assert_eq!(handshake(&client, port), HandshakeKind::Resumed, "{version:?}");
    }
}

#[test]
fn a_new_certificate_begins_new_sessions() {
    let (authority, port) = (Authority::new(), free_port());
    let agent = start(port, &authority.issue("own.test"));
    for version in [&TLS13, &TLS12] {
        let client = resuming(&authority, version);
        assert_eq!(handshake(&client, port), HandshakeKind::Full);
        assert_eq!(handshake(&client, port), HandshakeKind::Resumed);
        let new = authority.issue("own.test");
        fs::write(agent.certificates().join("own.key"), &new.key).unwrap();
        fs::write(agent.certificates().join("own.crt"), &new.certificate).unwrap();
        // A ticket of before is no error: the client is served after a full handshake.
        agent.until("new keys", || handshake(&client, port) == HandshakeKind::Full);
        for _ in 0..CONNECTIONS {
            assert_eq!(handshake(&client, port), HandshakeKind::Resumed, "{version:?}");
        }
    }
}

#[test]
fn openssl_resumes_and_may_not_send_data_with_its_hello() {
    if !has("openssl") {
        return;
    }
    let (authority, port) = (Authority::new(), free_port());
    let agent = start(port, &authority.issue("own.test"));
    let request = "GET / HTTP/1.1\r\nhost: own.test\r\nconnection: close\r\n\r\n";
    fs::write(agent.certificates().join("request"), request).unwrap();
    let s_client = |more: &[&str]| {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-ign_eof",
                "-servername",
                "own.test",
                "-connect",
                &format!("127.0.0.1:{port}"),
            ])
            .args(more)
            .current_dir(agent.certificates())
            .stdin(fs::File::open(agent.certificates().join("request")).map(Stdio::from).unwrap())
            .output();
        text(&output.unwrap())
    };
    let first = s_client(&["-sess_out", "session"]);
    assert!(first.contains("New, TLSv1.3") && first.contains("Max Early Data: 0"), "{first}");
    let second = s_client(&["-sess_in", "session", "-early_data", "request"]);
    assert!(second.contains("Reused, TLSv1.3"), "{second}");
    assert!(second.contains("Early data was not sent") && second.contains("HTTP/1.1 200"), "{second}");
}
