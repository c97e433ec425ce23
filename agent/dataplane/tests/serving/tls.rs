//! TLS terminated at a gateway, with rustls as the client and certificates made on the spot.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dataplane::{CertificateError, Settings, check_certificate};
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use snapshot::{
    Certificate, Credential, Draft, FilterChain, FilterChainMatch, TlsContext, TlsContextId, Transport,
};

use crate::support::{Client, Proxy, Upstream, gateway_draft, http_chain};

/// What was made for a server, and what clients trust.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) certificate: Certificate,
    pub(crate) der: CertificateDer<'static>,
}

pub(crate) fn make(names: &[&str]) -> Made {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let der = cert.der().clone();
    Made { certificate: Certificate::new(vec![der.clone()], key_of(&signing_key)), der }
}

pub(crate) fn key_of(pair: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(pair.serialize_der().into())
}

/// A listener with a chain for each server: the name asked for (`*` for all and none) and the certificate, if it has
/// one.
pub(crate) fn tls_draft(
    address: SocketAddr,
    upstream: SocketAddr,
    servers: &[(&str, Option<&Made>)],
) -> Draft {
    let mut draft = gateway_draft(address, &[upstream]);
    draft.listeners[0].filter_chains.clear();
    for (id, (name, made)) in (0..).zip(servers) {
        let server_names = if *name == "*" { vec![] } else { vec![name.parse().unwrap()] };
        let transport = Some(Transport::Tls);
        let chain = http_chain(FilterChainMatch { server_names, transport, ..FilterChainMatch::default() });
        draft.listeners[0].filter_chains.push(FilterChain { tls: Some(TlsContextId(id)), ..chain });
        draft.tls_contexts.push(TlsContext {
            name: format!("kubernetes://{name}"),
            credentials: vec![Credential {
                name: format!("kubernetes://{name}"),
                certificate: made.map(|made| made.certificate.clone()),
            }],
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
            ..TlsContext::default()
        });
    }
    draft
}

fn serve(upstream: &Upstream, servers: &[(&str, Option<&Made>)]) -> Proxy {
    let settings = Settings { handshake_timeout: Duration::from_secs(1), ..Settings::default() };
    Proxy::start(settings, |address| tls_draft(address, upstream.address, servers))
}

pub(crate) fn client_config(trusted: &[&Made], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(crate) type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// A client after its handshake, in which the server must have proved `name` with one of the trusted certificates.
pub(crate) fn connect(proxy: &Proxy, name: &str, trusted: &[&Made]) -> Result<TlsClient, std::io::Error> {
    connect_for("http/1.1", proxy, name, trusted)
}

/// The same, where `protocol` is agreed on.
pub(crate) fn connect_for(
    protocol: &str,
    proxy: &Proxy,
    name: &str,
    trusted: &[&Made],
) -> Result<TlsClient, std::io::Error> {
    let mut tcp = Client::connect(proxy.address).0;
    let config = client_config(trusted, &[protocol]);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(config, name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(Client(StreamOwned::new(session, tcp)))
}

pub(crate) fn counts(proxy: &Proxy) -> dataplane::Counts {
    proxy.runtime.block_on(proxy.plane.counts())
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let (a, wild, any) = (make(&["a.com"]), make(&["*.b.com"]), make(&["127.0.0.1", "other.org"]));
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("a.com", Some(&a)), ("*.b.com", Some(&wild)), ("*", Some(&any))]);
    // Each client trusts one certificate only, so a handshake that succeeds has seen that one. An address is never
    // sent as server name.
    for (name, made) in [("a.com", &a), ("x.b.com", &wild), ("other.org", &any), ("127.0.0.1", &any)] {
        let mut client = connect(&proxy, name, &[made]).unwrap();
        let answer = client.get("/");
        assert_eq!(answer.status(), "200", "{name}");
        assert!(answer.text().contains("x-forwarded-proto: https\r\n"), "{}", answer.text());
    }
    assert!(connect(&proxy, "a.com", &[&any]).is_err());
}

#[test]
fn a_name_that_nobody_serves_is_closed_and_counted() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("a.com", Some(&a))]);
    for name in ["b.com", "sub.a.com", "127.0.0.1"] {
        assert!(connect(&proxy, name, &[&a]).is_err(), "{name}");
    }
    assert_eq!(proxy.connect().send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").rest(), b"");
    let counts = counts(&proxy);
    assert_eq!((counts.no_filter_chain, counts.failed_handshakes, counts.requests), (4, 0, 0));
}

#[test]
fn many_requests_and_large_bodies_share_a_connection() {
    const SIZE: usize = 12 << 20;
    let a = make(&["a.com"]);
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let body = client.exactly(length.unwrap_or(0));
            client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).send(body);
        }
    });
    let proxy = serve(&upstream, &[("*", Some(&a))]);
    let mut client = connect(&proxy, "a.com", &[&a]).unwrap();
    for _ in 0..20 {
        assert_eq!(client.get("/").status(), "200");
    }
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 31 % 251) as u8).collect();
    client.send(format!("POST / HTTP/1.1\r\nhost: a.com\r\ncontent-length: {SIZE}\r\n\r\n")).send(&body);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // The proxy meets a full socket meanwhile, and has to go on by itself when it empties.
    std::thread::sleep(Duration::from_millis(300));
    assert!(client.exactly(SIZE) == body);
    assert_eq!(client.get("/").status(), "200");
    assert_eq!((upstream.connections(), counts(&proxy).connections), (1, 1));
}

#[test]
fn the_last_bytes_reach_a_client_that_reads_late() {
    const SIZE: usize = 6 << 20;
    let a = make(&["a.com"]);
    let upstream = Upstream::start(|mut client| {
        client.request_head();
        client.send("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").send(vec![7; SIZE]);
    });
    let proxy = serve(&upstream, &[("*", Some(&a))]);
    let mut client = connect(&proxy, "a.com", &[&a]).unwrap();
    client.send("GET / HTTP/1.0\r\nhost: a.com\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    client.head();
    // Without the end being announced rustls would report an error here.
    assert_eq!(client.rest().len(), SIZE);
}

#[test]
fn h2_is_agreed_by_alpn() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("a.com", Some(&a))]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(client_config(&[&a], &["h2", "http/1.1"]));
        let tls = connector.connect("a.com".try_into().unwrap(), tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..10 {
            let request = Request::get("https://a.com/x").body(Full::<Bytes>::default()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let head = String::from_utf8(body.to_vec()).unwrap();
            assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
        }
    });
}

#[test]
fn who_agrees_on_h2_begins_with_it_soon() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let settings = Settings { head_timeout: Duration::from_millis(500), ..Settings::default() };
    let servers = [("a.com", Some(&a))];
    let proxy = Proxy::start(settings, |address| tls_draft(address, upstream.address, &servers));
    let mut idle = connect(&proxy, "a.com", &[&a]).unwrap();
    let start = Instant::now();
    connect_for("h2", &proxy, "a.com", &[&a]).unwrap().rest_or_reset();
    assert!(start.elapsed().as_millis() >= 400, "{:?}", start.elapsed());
    // HTTP/1.1 has no preface.
    assert_eq!(idle.get("/").status(), "200");
}

#[test]
fn a_half_handshake_times_out_and_others_go_on() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("*", Some(&a))]);
    let hello = hello("a.com", &a);
    let start = Instant::now();
    let mut stalled: Vec<Client> = [0, 1, hello.len() / 2, hello.len()]
        .map(|n| {
            let mut client = proxy.connect();
            client.send(&hello[..n]);
            client
        })
        .into();
    assert_eq!(connect(&proxy, "a.com", &[&a]).unwrap().get("/").status(), "200");
    for client in &mut stalled {
        client.0.read_to_end(&mut Vec::new()).unwrap();
    }
    // Time goes by in ticks of half a second.
    assert!(start.elapsed().as_millis() >= 400, "{:?}", start.elapsed());
    assert_eq!(counts(&proxy).failed_handshakes, 4);
}

/// A client hello as it goes over the wire.
pub(crate) fn hello(name: &str, trusted: &Made) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(client_config(&[trusted], &[]), name).unwrap();
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_hello_in_single_bytes_and_many_records_is_understood() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("a.com", Some(&a))]);
    let hello = hello("a.com", &a);
    // The handshake message alone, in records of 50 bytes, sent in pieces of one byte.
    let records =
        hello[5..].chunks(50).flat_map(|part| [&[22, 3, 1, 0, part.len() as u8][..], part].concat());
    let mut client = proxy.connect();
    client.0.set_nodelay(true).unwrap();
    for byte in records {
        client.send([byte]);
    }
    let answer = client.exactly(6);
    assert_eq!((answer[0], answer[5]), (22, 2), "no server hello but {answer:?}");
}

#[test]
fn what_is_no_hello_or_too_large_costs_its_connection_only() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("*", Some(&a))]);
    // A handshake message of 60 KiB that never ends; application data; a record of nothing but noise.
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0, 0xf0, 0][..], &[0; 20_000]].concat();
    for bytes in [&endless[..], &[22, 3, 3, 0, 4, 9, 9, 9, 9], &[22, 9, 9, 0xff, 0xff, 0, 0]] {
        let mut client = proxy.connect();
        // The proxy may have closed already.
        _ = client.0.write_all(bytes);
        _ = client.0.read_to_end(&mut Vec::new());
    }
    assert_eq!(connect(&proxy, "a.com", &[&a]).unwrap().get("/").status(), "200");
    assert_eq!(counts(&proxy).failed_handshakes, 3);
}

#[test]
fn a_server_without_certificate_refuses_with_an_alert_and_others_go_on() {
    let a = make(&["a.com"]);
    let upstream = Upstream::echoing_heads();
    let proxy = serve(&upstream, &[("broken.com", None), ("*", Some(&a))]);
    let error = connect(&proxy, "broken.com", &[&a]).err().unwrap();
    assert!(error.to_string().contains("InternalError"), "{error}");
    assert_eq!(connect(&proxy, "a.com", &[&a]).unwrap().get("/").status(), "200");
}

#[test]
fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (make(&["a.com"]), make(&["a.com"]));
    let upstream = Upstream::echoing_heads();
    let mut proxy = serve(&upstream, &[("a.com", Some(&old))]);
    let mut before = connect(&proxy, "a.com", &[&old]).unwrap();
    assert_eq!(before.get("/").status(), "200");
    proxy.publish(tls_draft(proxy.address, upstream.address, &[("a.com", Some(&new))]));
    assert_eq!(connect(&proxy, "a.com", &[&new]).unwrap().get("/").status(), "200");
    assert!(connect(&proxy, "a.com", &[&old]).is_err());
    assert_eq!(before.get("/").status(), "200");
}

#[test]
fn a_key_of_another_certificate_is_told_from_a_good_one() {
    let (a, b) = (make(&["a.com"]), make(&["a.com"]));
    let mixed = Certificate::new(vec![a.der.clone()], b.certificate.expose_key().clone_key());
    let noise = || CertificateDer::from(vec![1, 2, 3]);
    let key = || a.certificate.expose_key().clone_key();
    assert_eq!(check_certificate(&a.certificate), Ok(()));
    assert_eq!(check_certificate(&mixed), Err(CertificateError::KeyMismatch));
    assert_eq!(check_certificate(&Certificate::new(vec![noise()], key())), Err(CertificateError::Malformed));
    let no_key = PrivateKeyDer::Pkcs8(vec![1, 2, 3].into());
    let unusable = Certificate::new(vec![a.der.clone()], no_key);
    assert_eq!(check_certificate(&unusable), Err(CertificateError::KeyUnusable));
}

#[test]
fn clear_text_is_redirected_to_https() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        let mut hosts = draft.route_configs[0].virtual_hosts().to_vec();
        hosts[0].require_tls = true;
        hosts[0].tls_exempt = vec!["/.well-known/acme-challenge/".to_owned()];
        draft.route_configs[0] = snapshot::RouteConfig::new("http.80", hosts);
        draft
    });
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET /a?b=c HTTP/1.1\r\nhost: a.com\r\nx-forwarded-proto: https\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text()), ("301", ""));
        assert_eq!(answer.field("location"), Some("https://a.com/a?b=c"));
    }
    assert_eq!(upstream.connections(), 0);
    let challenge = "GET /.well-known/acme-challenge/x HTTP/1.1\r\nhost: a.com\r\n\r\n";
    assert_eq!(client.send(challenge).answer().status(), "200");
}

#[test]
fn a_redirect_to_https_leads_to_the_port_of_the_https_server() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream.address]);
        let mut hosts = draft.route_configs[0].virtual_hosts().to_vec();
        hosts[0].require_tls = true;
        let https = snapshot::HttpsPorts::new(vec![("*.a.com".parse().unwrap(), 8443)], vec![8081]);
        let table = snapshot::RouteConfig::new("http.80", hosts).with_https_ports(https.into());
        draft.route_configs[0] = table;
        draft
    });
    let mut client = proxy.connect();
    let own = proxy.address.port();
    for (asked, told) in [
        ("x.a.com".to_owned(), "https://x.a.com:8443/p"),
        (format!("x.a.com:{own}"), "https://x.a.com:8443/p"),
        ("x.a.com:8081".to_owned(), "https://x.a.com:8443/p"),
        ("a.com".to_owned(), "https://a.com/p"),
        ("x.a.com:30080".to_owned(), "https://x.a.com:30080/p"),
    ] {
        client.send(format!("GET /p HTTP/1.1\r\nhost: {asked}\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.field("location")), ("301", Some(told)), "{asked}");
    }
    assert_eq!(upstream.connections(), 0);
}
