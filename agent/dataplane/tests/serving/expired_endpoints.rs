//! Endpoints whose certificate ends while sessions with them are resumed.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::date_time_ymd;
use rustls::{
    HandshakeKind, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::{
    issuer::{Issued, Issuer},
    origination::{by, dns, serve_tls, status, tls},
    support::{Proxy, eventually, gateway_draft},
};

/// What an endpoint shows from now on.
#[derive(Debug)]
struct Shown(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap()))
    }
}

fn key_of(issued: &Issued) -> Arc<CertifiedKey> {
    let key = aws_lc_rs::sign::any_supported_type(&issued.private_key()).unwrap();
    Arc::new(CertifiedKey::new(vec![issued.der.clone()], key))
}

/// Kinds of the handshakes that went through.
type Kinds = Arc<Mutex<Vec<HandshakeKind>>>;

/// An endpoint that resumes sessions.
fn endpoint(shown: &Arc<Shown>, version: &'static SupportedProtocolVersion) -> (SocketAddr, Kinds) {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
    let config = builder.with_cert_resolver(Arc::clone(shown) as Arc<dyn ResolvesServerCert>);
    let kinds = Kinds::default();
    let told = Arc::clone(&kinds);
    let address = serve_tls(config, move |session| told.lock().unwrap().extend(session.handshake_kind()));
    (address, kinds)
}

/// A gateway in front of an endpoint whose session it has resumed, and whose certificate has ended since.
fn expired(issuer: &Issuer, version: &'static SupportedProtocolVersion) -> (Proxy, Arc<Shown>, Kinds) {
    // On a busy machine the shorter lives end before the handshakes.
    for life in [3, 10, 40] {
        let end = SystemTime::now() + Duration::from_secs(life);
        let since_epoch = end.duration_since(UNIX_EPOCH).unwrap();
        let names = [dns("a.com")];
        let shown = issuer.issue(&names, |params| params.not_after = date_time_ymd(1970, 1, 1) + since_epoch);
        let shown = Arc::new(Shown(Mutex::new(key_of(&shown))));
        let (address, kinds) = endpoint(&shown, version);
        let proxy = Proxy::start(dataplane::Settings::default(), |at| {
            let mut draft = gateway_draft(at, &[address]);
            draft.clusters[0].tls = Some(Arc::new(tls(by(issuer, &[]))));
            draft.clusters[0].connections.max_requests = Some(1);
            draft
        });
        let asked = [(); 3].map(|()| status(&proxy, "a.com"));
        if asked.iter().all(|status| status == "200") {
            assert!(kinds.lock().unwrap().contains(&HandshakeKind::Resumed));
            eventually("the certificate ends", || SystemTime::now() > end + Duration::from_secs(1));
            return (proxy, shown, kinds);
        }
    }
    panic!("no certificate lived long enough for some handshakes");
}

#[test]
fn an_endpoint_is_not_believed_for_the_session_it_resumes() {
    let issuer = Issuer::new();
    for version in [&TLS12, &TLS13] {
        let (proxy, ..) = expired(&issuer, version);
        let asked = [(); 2].map(|()| status(&proxy, "a.com"));
        assert_eq!(asked, ["503", "503"], "{version:?}");
    }
}

#[test]
fn an_endpoint_with_another_certificate_since_loses_nothing() {
    let issuer = Issuer::new();
    let (proxy, shown, kinds) = expired(&issuer, &TLS13);
    *shown.0.lock().unwrap() = key_of(&issuer.issue(&[dns("a.com")], |_| {}));
    assert_eq!(status(&proxy, "a.com"), "200");
    assert_eq!(kinds.lock().unwrap().last(), Some(&HandshakeKind::Full));
    assert_eq!(status(&proxy, "a.com"), "200");
    assert_eq!(kinds.lock().unwrap().last(), Some(&HandshakeKind::Resumed));
}
