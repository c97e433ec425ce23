//! What becomes of TLS connections when their server asks more of clients than it did: who was let in under other terms is
//! not served under these.

use std::{
    io::{ErrorKind, Read},
    net::SocketAddr,
    sync::Arc,
};

use dataplane::Settings;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use snapshot::{ClientCertificates, Draft, NetworkFilter, PeerRules, TlsVersion};

use crate::{
    issuer::Issuer,
    mutual::{config, open},
    support::{Proxy, Upstream},
    tls::{Made, TlsClient, client_config, connect, make, tls_draft},
};

type Change<'c> = &'c dyn Fn(&mut Draft);

/// Two servers, of which only `b.com` stands for itself; others are served by that of `*`.
fn wildcard(address: SocketAddr, upstream: SocketAddr, made: &Made) -> Draft {
    tls_draft(address, upstream, &[("*", Some(made))])
}

/// Another server for `b.com` beside it, which requires certificates of clients.
fn with_b(address: SocketAddr, upstream: SocketAddr, made: &Made) -> Draft {
    let mut draft = tls_draft(address, upstream, &[("*", Some(made)), ("b.com", Some(made))]);
    draft.tls_contexts[1].clients = required(&Issuer::new());
    draft
}

fn required(issuer: &Issuer) -> ClientCertificates {
    ClientCertificates::Required(PeerRules { authority: issuer.authority(), ..PeerRules::default() })
}

/// Whether the connection ends by itself, however it does that.
fn ends(client: &mut impl Read) -> bool {
    match client.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn ask(client: &mut TlsClient) -> String {
    client.send("GET / HTTP/1.1\r\nhost: b.com\r\n\r\n");
    String::from_utf8_lossy(&client.rest_or_reset()).into_owned()
}

/// Whether a connection is still served once its server has changed.
fn goes_on(change: Change<'_>) -> bool {
    let made = make(&["b.com"]);
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::start(Settings::default(), |at| wildcard(at, upstream.address, &made));
    let mut client = connect(&proxy, "b.com", &[&made]).unwrap();
    let get = "GET / HTTP/1.1\r\nhost: b.com\r\n\r\n";
    assert_eq!(client.send(get).answer().status(), "200");
    let mut draft = wildcard(proxy.address, upstream.address, &made);
    change(&mut draft);
    proxy.publish(draft);
    let closing = "GET / HTTP/1.1\r\nhost: b.com\r\nconnection: close\r\n\r\n";
    client.send(closing);
    String::from_utf8_lossy(&client.rest_or_reset()).starts_with("HTTP/1.1 200")
}

#[test]
fn a_connection_ends_when_more_is_asked_of_clients_and_goes_on_otherwise() {
    let issuer = Issuer::new();
    assert!(goes_on(&|_| {}));
    let renewed = make(&["b.com"]).certificate;
    assert!(goes_on(&|draft| {
        draft.tls_contexts[0].credentials[0].certificate = Some(renewed.clone());
    }));
    assert!(!goes_on(&|draft| draft.tls_contexts[0].clients = required(&issuer)));
    // What was agreed on is that already.
    assert!(goes_on(&|draft| draft.tls_contexts[0].parameters.min_version = TlsVersion::V1_3));
    assert!(!goes_on(&|draft| draft.tls_contexts[0].parameters.max_version = Some(TlsVersion::V1_2)));
    assert!(!goes_on(&|draft| draft.listeners[0].filter_chains[0].tls = None));
}

/// Authorities are replaced by adding the next before the last is taken away: nobody who is trusted all the while may
/// lose a request by it.
#[test]
fn who_meets_the_new_terms_with_what_was_shown_is_served() {
    let (known, next) = (Issuer::new(), Issuer::new());
    let required = |authority| {
        let rules = PeerRules { authority, ..PeerRules::default() };
        move |draft: &mut Draft| draft.tls_contexts[0].clients = ClientCertificates::Required(rules.clone())
    };
    let (shown, other) = (known.client("me.com"), known.client("other.com"));
    let both = {
        let mut both = known.authority();
        let certificates = [known.der(), next.der()].into();
        both.bundle.as_mut().unwrap().certificates = certificates;
        both
    };
    let made = make(&["a.com"]);
    for (change, served) in [
        (required(both), true),
        (required(next.authority()), false),
        (required(known.revoking(&[&other])), true),
        (required(known.revoking(&[&shown])), false),
    ] {
        let upstream = Upstream::echoing_heads();
        let start = required(known.authority());
        let draft = |at, change: Change<'_>| {
            let mut draft = wildcard(at, upstream.address, &made);
            change(&mut draft);
            draft
        };
        let mut proxy = Proxy::start(Settings::default(), |at| draft(at, &start));
        let mut client = open(&proxy, config(&[&made.der], Some(&shown)));
        assert_eq!(client.send("GET / HTTP/1.1\r\nhost: a.com\r\n\r\n").answer().status(), "200");
        proxy.publish(draft(proxy.address, &change));
        let last = client.send("GET / HTTP/1.1\r\nhost: a.com\r\nconnection: close\r\n\r\n").answer();
        assert_eq!(last.status(), if served { "200" } else { "421" });
    }
}

#[test]
fn a_server_of_its_own_for_the_name_serves_no_connection_from_before() {
    let made = make(&["b.com"]);
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::start(Settings::default(), |at| wildcard(at, upstream.address, &made));
    let mut idle = connect(&proxy, "b.com", &[&made]).unwrap();
    let mut busy = connect(&proxy, "b.com", &[&made]).unwrap();
    busy.send("GET / HTTP/1.1\r\n");
    proxy.publish(with_b(proxy.address, upstream.address, &made));
    // One that has nothing under way is closed at once.
    assert!(ends(&mut idle.0));
    busy.send("host: b.com\r\n\r\n");
    let answered = String::from_utf8_lossy(&busy.rest_or_reset()).into_owned();
    assert!(answered.starts_with("HTTP/1.1 421 "), "{answered}");
    assert!(answered.contains("connection: close\r\n"), "{answered}");
    // New ones are asked for a certificate, and other names are served as before.
    assert_eq!(
        connect(&proxy, "b.com", &[&made]).map_or_else(|_| String::new(), |mut client| ask(&mut client)),
        ""
    );
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn who_is_refused_is_not_served_as_before_when_the_server_goes() {
    let made = make(&["b.com"]);
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::start(Settings::default(), |at| wildcard(at, upstream.address, &made));
    let mut busy = connect(&proxy, "b.com", &[&made]).unwrap();
    busy.send("GET / HTTP/1.1\r\n");
    let mut asking = wildcard(proxy.address, upstream.address, &made);
    asking.tls_contexts[0].clients = required(&Issuer::new());
    proxy.publish(asking);
    let mut gone = wildcard(proxy.address, upstream.address, &made);
    gone.listeners[0].filter_chains[0].filter = NetworkFilter::Blackhole;
    proxy.publish(gone);
    busy.send("host: b.com\r\n\r\n");
    let answered = String::from_utf8_lossy(&busy.rest_or_reset()).into_owned();
    assert!(!answered.contains(" 200 "), "{answered}");
    assert_eq!(upstream.connections(), 0);
}

/// Requests over one HTTP/2 connection, of which all but the first come after a change: their statuses, until the
/// connection takes none.
fn statuses(proxy: &mut Proxy, config: ClientConfig, changed: Draft) -> Vec<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let get = || Request::get("https://b.com/").body(Full::<bytes::Bytes>::default()).unwrap();
    let connecting = async {
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect("b.com".try_into().unwrap(), tcp).await.unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let first = sender.send_request(get()).await.unwrap().status().as_u16();
        (sender, first)
    };
    let (mut sender, first) = local.block_on(&runtime, connecting);
    proxy.publish(changed);
    let asking = async {
        let mut statuses = vec![first];
        while statuses.len() < 100
            && let Ok(answer) = sender.send_request(get()).await
        {
            statuses.push(answer.status().as_u16());
            drop(answer.into_body().collect().await);
        }
        statuses
    };
    local.block_on(&runtime, asking)
}

#[test]
fn an_http_2_connection_is_told_to_go() {
    let made = make(&["b.com"]);
    let upstream = Upstream::echoing_heads();
    let mut proxy = Proxy::start(Settings::default(), |at| wildcard(at, upstream.address, &made));
    let config = Arc::unwrap_or_clone(client_config(&[&made], &["h2"]));
    let changed = with_b(proxy.address, upstream.address, &made);
    let statuses = statuses(&mut proxy, config, changed);
    // A request may cross the word that no more are taken.
    assert!(matches!(*statuses, [200] | [200, 421]), "{statuses:?}");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_http_2_connection_whose_certificate_does_no_more_is_told_to_go() {
    let made = make(&["b.com"]);
    let upstream = Upstream::echoing_heads();
    let (known, next) = (Issuer::new(), Issuer::new());
    let asking = |at, issuer: &Issuer| {
        let mut draft = wildcard(at, upstream.address, &made);
        draft.tls_contexts[0].clients = required(issuer);
        draft
    };
    let mut proxy = Proxy::start(Settings::default(), |at| asking(at, &known));
    let mut config = config(&[&made.der], Some(&known.client("me.com")));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let changed = asking(proxy.address, &next);
    let statuses = statuses(&mut proxy, config, changed);
    assert!(statuses.len() < 10 && statuses[1..].iter().all(|status| *status == 421), "{statuses:?}");
}
