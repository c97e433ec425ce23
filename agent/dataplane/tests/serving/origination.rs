//! TLS to endpoints: what they are told, what they must show, and which of them it is spoken to.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use dataplane::Settings;
use rcgen::SanType;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use snapshot::{
    Application, Certificate, Credential, Discovery, Endpoint, FilterChainMatch, NameMatch, ServerCheck,
    ServerNameSource, TlsParameters, Transport, UpstreamProtocol, UpstreamTls, UpstreamTlsUse,
};

use crate::{
    issuer::{Issued, Issuer},
    support::{Proxy, Upstream, gateway_draft, tcp_chain},
};

/// What a client of a [`TlsServer`] said in its handshakes: server name, protocols offered, whether it showed a
/// certificate.
type Seen = Arc<Mutex<Vec<(Option<String>, Option<String>, bool)>>>;

/// An endpoint that speaks TLS and answers every request with 200.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    seen: Seen,
}

impl TlsServer {
    pub(crate) fn start(shown: &Issued, clients: Option<&Issuer>, protocols: &[&str]) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(issuer) => {
                let mut roots = RootCertStore::empty();
                roots.add(issuer.der()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(vec![shown.der.clone()], shown.private_key()).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        // Every handshake is whole, so that every one tells what it offers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let seen = Seen::default();
        let told = Arc::clone(&seen);
        let address = serve_tls(config, move |session| {
            let protocol = session.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
            let name = session.server_name().map(str::to_owned);
            told.lock().unwrap().push((name, protocol, session.peer_certificates().is_some()));
        });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<(Option<String>, Option<String>, bool)> {
        self.seen.lock().unwrap().clone()
    }
}

/// Serves TLS on a port of its own, which is returned: tells of each handshake that went through, and answers requests.
pub(crate) fn serve_tls(
    config: ServerConfig,
    tell: impl Fn(&ServerConnection) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (config, tell) = (Arc::new(config), Arc::new(tell));
    thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let (config, tell) = (Arc::clone(&config), Arc::clone(&tell));
            thread::spawn(move || {
                let mut session = ServerConnection::new(config).unwrap();
                while session.is_handshaking() {
                    if session.complete_io(&mut tcp).is_err() {
                        return;
                    }
                }
                tell(&session);
                answer(StreamOwned::new(session, tcp));
            });
        }
    });
    address
}

fn answer(mut stream: StreamOwned<ServerConnection, TcpStream>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while let Ok(1) = stream.read(&mut byte) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let until_close = head.starts_with(b"GET /cut") || head.starts_with(b"GET /whole");
            if head.starts_with(b"POST / ") && head.windows(8).any(|bytes| bytes == b"cut.test") {
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
                return;
            }
            if until_close {
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall");
            } else {
                _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
            if head.starts_with(b"GET /whole") {
                stream.conn.send_close_notify();
                _ = stream.flush();
            }
            if until_close {
                return;
            }
            head.clear();
        }
    }
}

pub(crate) fn by(issuer: &Issuer, names: &[&str]) -> ServerCheck {
    let names = names.iter().map(|name| NameMatch::Exact((*name).to_owned())).collect();
    ServerCheck::Authority(issuer.authority(), names)
}

pub(crate) fn tls(check: ServerCheck) -> UpstreamTls {
    UpstreamTls {
        endpoints: UpstreamTlsUse::All,
        server_name: ServerNameSource::Authority,
        check,
        credential: None,
        of_mesh: false,
        parameters: TlsParameters::default(),
    }
}

pub(crate) fn proxy(server: &TlsServer, tls: UpstreamTls) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[server.address]);
        draft.clusters[0].tls = Some(Arc::new(tls));
        draft
    })
}

pub(crate) fn status(proxy: &Proxy, host: &str) -> String {
    let mut client = proxy.connect();
    let answer = client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
    answer.status().to_owned()
}

pub(crate) fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[test]
fn the_host_of_a_request_is_the_server_name_and_must_be_proved() {
    let issuer = Issuer::new();
    let server = TlsServer::start(&issuer.issue(&[dns("a.com"), dns("b.com")], |_| {}), None, &[]);
    let proxy = proxy(&server, tls(by(&issuer, &[])));
    // One client: its connection to the endpoint is free before it asks again.
    let mut client = proxy.connect();
    for host in ["a.com", "a.com:8443", "B.com", "a.com"] {
        let answer = client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
        assert_eq!(answer.status(), "200", "{host}");
    }
    assert_eq!(status(&proxy, "c.com"), "503");
    // Connections are kept apart by host, and used again.
    let names: Vec<_> = server.seen().into_iter().map(|(name, ..)| name.unwrap()).collect();
    assert_eq!(names, ["a.com", "b.com"]);
}

#[test]
fn made_up_hosts_keep_no_other_from_having_connections() {
    let issuer = Issuer::new();
    let server = TlsServer::start(&issuer.issue(&[dns("*.a.test")], |_| {}), None, &[]);
    let proxy = proxy(&server, tls(by(&issuer, &[])));
    let mut client = proxy.connect();
    let mut ask = |host: &str| {
        let answer = client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).answer();
        assert_eq!(answer.status(), "200", "{host}");
    };
    (0..64).for_each(|n| ask(&format!("{n}.a.test")));
    for n in 64..100 {
        ask("real.a.test");
        ask(&format!("{n}.a.test"));
    }
    let seen = server.seen();
    let count = |host: &str| seen.iter().filter(|(name, ..)| name.as_deref() == Some(host)).count();
    assert_eq!((count("real.a.test"), seen.len()), (1, 101));
}

#[test]
fn a_written_server_name_is_sent_and_one_of_the_names_must_be_shown() {
    let issuer = Issuer::new();
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), None, &[]);
    let fixed = |sni: &str, names: &[&str]| UpstreamTls {
        server_name: ServerNameSource::Fixed(sni.to_owned()),
        ..tls(by(&issuer, names))
    };
    for (sni, names, expected) in [
        ("a.com", &[][..], "200"),
        ("x.com", &[], "503"),
        ("x.com", &["y.com", "a.com"], "200"),
        ("a.com", &["y.com"], "503"),
    ] {
        let proxy = proxy(&server, fixed(sni, names));
        assert_eq!(status(&proxy, "any.org"), expected, "{sni} {names:?}");
    }
    assert!(server.seen().iter().all(|(name, ..)| matches!(name.as_deref(), Some("a.com" | "x.com"))));
}

#[test]
fn an_authority_that_is_not_trusted_or_not_there_fails_the_request() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), None, &[]);
    assert_eq!(status(&proxy(&server, tls(by(&other, &[]))), "a.com"), "503");
    assert_eq!(status(&proxy(&server, tls(ServerCheck::System(vec![]))), "a.com"), "503");
    let missing = ServerCheck::Authority(snapshot::Authority::default(), vec![]);
    assert_eq!(status(&proxy(&server, tls(missing)), "a.com"), "503");
    assert_eq!(status(&proxy(&server, tls(ServerCheck::Unverified)), "a.com"), "200");
}

#[test]
fn a_client_certificate_is_shown_to_those_who_ask() {
    let issuer = Issuer::new();
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), Some(&issuer), &[]);
    assert_eq!(status(&proxy(&server, tls(by(&issuer, &[]))), "a.com"), "503");
    let own = issuer.client("me.com");
    let key: PrivateKeyDer<'static> = own.private_key();
    let certificate = Some(Certificate::new(vec![own.der.clone()], key));
    let credential = Some(Credential { name: "default".to_owned(), certificate });
    let mutual = UpstreamTls { credential, ..tls(by(&issuer, &[])) };
    assert_eq!(status(&proxy(&server, mutual.clone()), "a.com"), "200");
    assert!(server.seen().last().unwrap().2);
    let broken = Some(Credential { name: "default".to_owned(), certificate: None });
    assert_eq!(status(&proxy(&server, UpstreamTls { credential: broken, ..mutual }), "a.com"), "503");
}

#[test]
fn proxies_of_the_mesh_are_told_by_the_protocols_and_others_get_clear_text() {
    let issuer = Issuer::new();
    let protocols = ["istio-http/1.1", "istio"];
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), None, &protocols);
    let clear = Upstream::echoing_heads();
    let of_mesh = UpstreamTls {
        endpoints: UpstreamTlsUse::Ready,
        server_name: ServerNameSource::Fixed("outbound_.80_._.a.default.svc.cluster.local".to_owned()),
        of_mesh: true,
        ..tls(by(&issuer, &["a.com"]))
    };
    let start = |address: SocketAddr, speaks_mesh_tls| {
        Proxy::start(Settings::default(), |own| {
            let mut draft = gateway_draft(own, &[]);
            let endpoint = Endpoint { speaks_mesh_tls, ..Endpoint::at(address) };
            draft.clusters[0].discovery = Discovery::Endpoints(vec![vec![endpoint].into()]);
            draft.clusters[0].protocol = UpstreamProtocol::Http1;
            draft.clusters[0].tls = Some(Arc::new(of_mesh.clone()));
            draft
        })
    };
    assert_eq!(status(&start(server.address, true), "a.com"), "200");
    let (name, protocol, _) = server.seen().pop().unwrap();
    assert_eq!(name.as_deref(), Some("outbound_.80_._.a.default.svc.cluster.local"));
    assert_eq!(protocol.as_deref(), Some("istio-http/1.1"));
    assert_eq!(status(&start(clear.address, false), "a.com"), "200");
    // Opaque connections offer the protocol for them.
    let proxy = Proxy::start(Settings::default(), |own| {
        let mut draft = gateway_draft(own, &[server.address]);
        draft.clusters[0].tls =
            Some(Arc::new(UpstreamTls { endpoints: UpstreamTlsUse::All, ..of_mesh.clone() }));
        draft.listeners[0].filter_chains = vec![tcp_chain(0)];
        draft.listeners[0].filter_chains[0].matches = FilterChainMatch::default();
        draft
    });
    assert_eq!(status(&proxy, "a.com"), "200");
    assert_eq!(server.seen().pop().unwrap().1.as_deref(), Some("istio"));
}

#[test]
fn a_large_body_gets_through_both_ways() {
    const SIZE: usize = 8 << 20;
    let issuer = Issuer::new();
    let shown = issuer.issue(&[dns("a.com")], |_| {});
    // The endpoint is a proxy of our own, so that it streams.
    let upstream = Upstream::start(|mut client| {
        while client.request_head().is_some() {
            let body = client.exactly(SIZE);
            client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n")).send(body);
        }
    });
    let made = crate::tls::Made {
        certificate: Certificate::new(vec![shown.der.clone()], shown.private_key()),
        der: shown.der.clone(),
    };
    let behind = Proxy::start(Settings::default(), |address| {
        crate::tls::tls_draft(address, upstream.address, &[("a.com", Some(&made))])
    });
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[behind.address]);
        draft.clusters[0].tls = Some(Arc::new(tls(by(&issuer, &[]))));
        draft
    });
    let mut client = proxy.connect();
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 31 % 251) as u8).collect();
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: {SIZE}\r\n\r\n")).send(&body);
        assert!(client.head().starts_with("HTTP/1.1 200"));
        assert!(client.exactly(SIZE) == body);
    }
}

#[test]
fn the_mesh_is_passed_on_to_the_cluster_that_it_names_and_nobody_else_is() {
    const NAME: &str = "outbound_.80_._.a.default.svc.cluster.local";
    let issuer = Issuer::new();
    let server = TlsServer::start(&issuer.issue(&[dns("a.com")], |_| {}), None, &["istio-http/1.1", "istio"]);
    let between = Proxy::start(Settings::default(), |own| {
        let mut draft = gateway_draft(own, &[server.address]);
        let mut chain = tcp_chain(0);
        chain.matches = FilterChainMatch {
            server_names: vec![NAME.parse().unwrap()],
            transport: Some(Transport::Tls),
            application: Some(Application::Mesh),
            ..FilterChainMatch::default()
        };
        draft.listeners[0].filter_chains = vec![chain];
        draft
    });
    let calling = |name: &str, of_mesh| {
        Proxy::start(Settings::default(), |own| {
            let mut draft = gateway_draft(own, &[between.address]);
            draft.clusters[0].protocol = UpstreamProtocol::Http1;
            let server_name = ServerNameSource::Fixed(name.to_owned());
            draft.clusters[0].tls =
                Some(Arc::new(UpstreamTls { server_name, of_mesh, ..tls(by(&issuer, &["a.com"])) }));
            draft
        })
    };
    assert_eq!(status(&calling(NAME, true), "a.com"), "200");
    let (name, protocol, _) = server.seen().pop().unwrap();
    assert_eq!((name.as_deref(), protocol.as_deref()), (Some(NAME), Some("istio-http/1.1")));
    // Another cluster, and TLS that is not of the mesh.
    assert_eq!(status(&calling("outbound_.81_._.a.default.svc.cluster.local", true), "a.com"), "503");
    assert_eq!(status(&calling(NAME, false), "a.com"), "503");
    assert_eq!(server.seen().len(), 1);
}

/// Anybody on the way may have cut it off (RFC 9112 §9.8).
#[test]
fn an_answer_until_close_is_whole_only_when_its_end_is_announced() {
    let issuer = Issuer::new();
    let server = TlsServer::start(&issuer.client("test"), None, &[]);
    let proxy = proxy(&server, tls(by(&issuer, &[])));
    assert_eq!(proxy.connect().get("/whole").text(), "all");
    let mut client = proxy.connect();
    let head = client.send("GET /cut HTTP/1.1\r\nhost: test\r\n\r\n").head();
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert_eq!(String::from_utf8_lossy(&client.rest_or_reset()), "3\r\nall\r\n");
    // In a body whose length is known nothing can be missing.
    assert_eq!(proxy.connect().get("/").text(), "ok");
}
