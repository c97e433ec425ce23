//! Connections that wait.

use std::{
    io::Write,
    net::TcpStream,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivateKeyDer, ServerName},
};
use snapshot::{
    Certificate, ClusterId, ClusterTarget, Credential, Draft, NetworkFilter, TcpProxy, TlsContext,
    TlsContextId, WeightedClusters,
};

use crate::{HELD, HTTP2_PREFACE, Proxy, REQUEST, SETTLE, ask, gateway, http2_request, read_until};

const CONNECTIONS: usize = 100;

/// Bytes that the proxy holds for each connection that `open` makes.
fn held_by_each(proxy: &Proxy, mut open: impl FnMut(&Proxy) -> TcpStream) -> usize {
    // What is made once.
    let warm: Vec<_> = (0..20).map(|_| open(proxy)).collect();
    drop(warm);
    let mut connections = Vec::with_capacity(CONNECTIONS);
    let before = settled(proxy, 0);
    connections.extend((0..CONNECTIONS).map(|_| open(proxy)));
    settled(proxy, CONNECTIONS).saturating_sub(before) / CONNECTIONS
}

/// Bytes that the process holds once so many connections are served, and nothing has changed for a while: also on a
/// machine that is busy with other things.
fn settled(proxy: &Proxy, connections: usize) -> usize {
    let start = Instant::now();
    let (mut held, mut since) = (0, start);
    while since.elapsed() < SETTLE {
        assert!(start.elapsed() < PATIENCE, "never settles with {connections} connections");
        std::thread::sleep(SETTLE / 20);
        let now = HELD.load(Ordering::Relaxed);
        if now.abs_diff(held) > STIR || proxy.active_connections() != connections {
            (held, since) = (now, Instant::now());
        }
    }
    HELD.load(Ordering::Relaxed)
}

/// What asking for the counts may take.
const STIR: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn an_idle_http_1_connection_holds_little() {
    let proxy = Proxy::start(gateway);
    let held = held_by_each(&proxy, |proxy| {
        let mut client = proxy.connect();
        ask(&mut client, &mut [0; 4096]);
        client
    });
    assert!((500..1229).contains(&held), "{held} bytes");
}

#[test]
fn an_idle_http_2_connection_holds_the_buffers_of_its_codec() {
    let proxy = Proxy::start(gateway);
    let held = held_by_each(&proxy, |proxy| {
        let mut client = proxy.connect();
        client.write_all(HTTP2_PREFACE).expect("a preface");
        client.write_all(&http2_request(1)).expect("a request");
        read_until(&mut client, &mut [0; 4096], b"hello").expect("an answer");
        client
    });
    assert!((500..40 * 1024).contains(&held), "{held} bytes");
}

#[test]
fn an_idle_tls_connection_holds_little_more_than_its_session() {
    let made = generate_simple_self_signed(["svc.default".to_owned()]).expect("a certificate");
    let config = client_config(&made);
    let proxy = Proxy::start(|address, upstream| over_tls(gateway(address, upstream), &made));
    let held = held_by_each(&proxy, |proxy| {
        let name = ServerName::try_from("svc.default").expect("a name");
        let session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
        let mut client = StreamOwned::new(session, proxy.connect());
        client.write_all(REQUEST).expect("a request");
        read_until(&mut client, &mut [0; 4096], b"hello").expect("an answer");
        // The client's own state is not the question.
        client.sock
    });
    assert!((500..8 * 1024).contains(&held), "{held} bytes");
}

#[test]
fn a_tls_client_that_has_said_nothing_holds_no_room_for_its_handshake() {
    let made = generate_simple_self_signed(["svc.default".to_owned()]).expect("a certificate");
    let proxy = Proxy::start(|address, upstream| over_tls(gateway(address, upstream), &made));
    let held = held_by_each(&proxy, Proxy::connect);
    assert!((500..8 * 1024).contains(&held), "{held} bytes");
}

#[test]
fn an_idle_opaque_connection_holds_no_buffers() {
    let proxy = Proxy::start(|address, upstream| {
        let mut draft = gateway(address, upstream);
        let target = ClusterTarget {
            name: "test".to_owned(),
            id: Some(ClusterId(0)),
            weight: 1,
            authority: None,
            headers: None,
        };
        let clusters = WeightedClusters::new(vec![target]).expect("a destination");
        draft.listeners[0].filter_chains[0].filter = NetworkFilter::Tcp(TcpProxy { clusters });
        draft
    });
    let held = held_by_each(&proxy, |proxy| {
        let mut client = proxy.connect();
        client.write_all(b"hello").expect("bytes");
        client
    });
    assert!((500..2500).contains(&held), "{held} bytes");
}

fn client_config(made: &CertifiedKey<rcgen::KeyPair>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // Tickets would be kept.
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn over_tls(mut draft: Draft, made: &CertifiedKey<rcgen::KeyPair>) -> Draft {
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let certificate = Some(Certificate::new(vec![made.cert.der().clone()], key));
    let credentials = vec![Credential { name: "test".to_owned(), certificate }];
    draft.tls_contexts.push(TlsContext { name: "test".to_owned(), credentials, ..TlsContext::default() });
    draft.listeners[0].filter_chains[0].tls = Some(TlsContextId(0));
    draft
}
