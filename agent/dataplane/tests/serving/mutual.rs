//! What is asked of clients by way of certificates, and which of a server's own certificates they get.

use std::{
    net::TcpStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ::aws_lc_rs::digest::{SHA256, digest};
use dataplane::{CertificateError, Settings, check_authority};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SanType, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};
use snapshot::{
    Authority, Certificate, CipherSuite, ClientCertificates, Credential, KeyExchange, NameMatch, PeerRules,
    TlsContext, TlsParameters, TlsVersion,
};

use crate::{
    issuer::{Issued, Issuer},
    support::{Client, Proxy, Upstream},
    tls::{Made, TlsClient, make, tls_draft},
};

/// A gateway for `a.com` that asks this of its clients.
pub(crate) fn asking(server: &Made, clients: ClientCertificates) -> Proxy {
    with_context(server, |context| context.clients = clients)
}

fn with_context(server: &Made, change: impl FnOnce(&mut TlsContext)) -> Proxy {
    let upstream = Upstream::echoing_heads();
    Proxy::start(Settings::default(), |address| {
        let mut draft = tls_draft(address, upstream.address, &[("a.com", Some(server))]);
        change(&mut draft.tls_contexts[0]);
        draft
    })
}

/// A client's settings: what it shows, if anything.
pub(crate) fn config(server: &[&CertificateDer<'static>], shown: Option<&Issued>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    server.iter().for_each(|der| roots.add((*der).clone()).unwrap());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    match shown {
        Some(shown) => builder.with_client_auth_cert(vec![shown.der.clone()], shown.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// A connection for `a.com`, whose handshake begins with the first bytes.
pub(crate) fn open(proxy: &Proxy, config: ClientConfig) -> TlsClient {
    let tcp: TcpStream = Client::connect(proxy.address).0;
    let name = ServerName::try_from("a.com").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    Client(StreamOwned::new(session, tcp))
}

/// A request's answer, or why there is none: in TLS 1.3 a refused certificate shows with the first byte read.
fn ask(proxy: &Proxy, config: ClientConfig) -> Result<TlsClient, String> {
    let Client(mut client) = open(proxy, config);
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nhost: a.com\r\n\r\n")
        .map_err(|e| e.to_string())?;
    let mut first = [0; 12];
    std::io::Read::read_exact(&mut client, &mut first).map_err(|error| error.to_string())?;
    assert_eq!(&first, b"HTTP/1.1 200");
    Ok(Client(client))
}

pub(crate) fn outcome(proxy: &Proxy, server: &Made, shown: Option<&Issued>) -> Result<(), String> {
    ask(proxy, config(&[&server.der], shown)).map(|_| ())
}

pub(crate) fn rules(authority: Authority) -> PeerRules {
    PeerRules { authority, ..PeerRules::default() }
}

#[test]
fn a_required_certificate_must_come_from_the_authority() {
    let (server, issuer, other) = (make(&["a.com"]), Issuer::new(), Issuer::new());
    let proxy = asking(&server, ClientCertificates::Required(rules(issuer.authority())));
    assert_eq!(outcome(&proxy, &server, Some(&issuer.client("me.com"))), Ok(()));
    let missing = outcome(&proxy, &server, None).unwrap_err();
    assert!(missing.contains("CertificateRequired"), "{missing}");
    let unknown = outcome(&proxy, &server, Some(&other.client("me.com"))).unwrap_err();
    assert!(unknown.contains("UnknownCA") || unknown.contains("DecryptError"), "{unknown}");
    let expired = issuer.issue(&[], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let expired = outcome(&proxy, &server, Some(&expired)).unwrap_err();
    assert!(expired.contains("CertificateExpired"), "{expired}");
}

#[test]
fn an_optional_certificate_is_verified_when_it_is_shown() {
    let (server, issuer, other) = (make(&["a.com"]), Issuer::new(), Issuer::new());
    let proxy = asking(&server, ClientCertificates::Optional(rules(issuer.authority())));
    assert_eq!(outcome(&proxy, &server, Some(&issuer.client("me.com"))), Ok(()));
    assert_eq!(outcome(&proxy, &server, None), Ok(()));
    assert!(outcome(&proxy, &server, Some(&other.client("me.com"))).is_err());
}

#[test]
fn unverified_certificates_are_accepted_from_anybody_who_has_the_key() {
    let (server, other) = (make(&["a.com"]), Issuer::new());
    for (required, without) in [(true, false), (false, true)] {
        let proxy = asking(&server, ClientCertificates::Unverified { required });
        assert_eq!(outcome(&proxy, &server, Some(&other.client("me.com"))), Ok(()));
        assert_eq!(outcome(&proxy, &server, None).is_ok(), without);
    }
}

#[test]
fn without_a_usable_authority_nobody_is_served() {
    let (server, issuer) = (make(&["a.com"]), Issuer::new());
    let nobody = || rules(Authority { bundle: None, ..issuer.authority() });
    for clients in [ClientCertificates::Required(nobody()), ClientCertificates::Optional(nobody())] {
        let proxy = asking(&server, clients);
        assert!(outcome(&proxy, &server, Some(&issuer.client("me.com"))).is_err());
        assert!(outcome(&proxy, &server, None).is_err());
    }
}

#[test]
fn one_alternative_name_of_any_kind_must_be_listed() {
    let (server, issuer) = (make(&["a.com"]), Issuer::new());
    let names = ["me.com", "spiffe://td/ns/a/sa/b", "10.1.2.3", "me@a.com"];
    let names = names.map(|name| NameMatch::Exact(name.to_owned())).to_vec();
    let proxy =
        asking(&server, ClientCertificates::Required(PeerRules { names, ..rules(issuer.authority()) }));
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    for (name, accepted) in [
        (dns("ME.com"), true),
        (SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()), true),
        (SanType::IpAddress("10.1.2.3".parse().unwrap()), true),
        (SanType::Rfc822Name("me@a.com".try_into().unwrap()), true),
        (dns("x.me.com"), false),
        (SanType::URI("spiffe://td/ns/a/sa/bb".try_into().unwrap()), false),
        (SanType::IpAddress("10.1.2.4".parse().unwrap()), false),
    ] {
        let shown = issuer.issue(&[dns("other.com"), name.clone()], |_| {});
        let outcome = outcome(&proxy, &server, Some(&shown));
        assert_eq!(outcome.is_ok(), accepted, "{name:?}: {outcome:?}");
    }
}

#[test]
fn either_list_of_digests_admits_a_certificate() {
    let (server, issuer) = (make(&["a.com"]), Issuer::new());
    let [by_key, by_hash, neither] = ["a.com", "b.com", "c.com"].map(|name| issuer.client(name));
    let sha256 = |bytes: &[u8]| -> [u8; 32] { digest(&SHA256, bytes).as_ref().try_into().unwrap() };
    let public_key = snapshot::CertificateFacts::public_key(&by_key.der).unwrap();
    let rules = PeerRules {
        public_keys: vec![sha256(public_key)],
        certificates: vec![sha256(&by_hash.der)],
        ..rules(issuer.authority())
    };
    let proxy = asking(&server, ClientCertificates::Required(rules));
    assert_eq!(outcome(&proxy, &server, Some(&by_key)), Ok(()));
    assert_eq!(outcome(&proxy, &server, Some(&by_hash)), Ok(()));
    assert!(outcome(&proxy, &server, Some(&neither)).is_err());
}

#[test]
fn a_revoked_certificate_is_refused() {
    let (server, issuer) = (make(&["a.com"]), Issuer::new());
    let (good, bad) = (issuer.client("good.com"), issuer.client("bad.com"));
    let proxy = asking(&server, ClientCertificates::Required(rules(issuer.revoking(&[&bad]))));
    assert_eq!(outcome(&proxy, &server, Some(&good)), Ok(()));
    let revoked = outcome(&proxy, &server, Some(&bad)).unwrap_err();
    assert!(revoked.contains("CertificateRevoked"), "{revoked}");
    let mut broken = issuer.revoking(&[]).bundle.unwrap();
    broken.revocations = [vec![1, 2, 3].into()].into();
    assert_eq!(check_authority(&broken), Err(CertificateError::RevocationList));
    assert_eq!(check_authority(&issuer.revoking(&[&bad]).bundle.unwrap()), Ok(()));
}

#[test]
fn a_session_is_resumed_without_the_certificate_being_shown_again() {
    let (server, issuer) = (make(&["a.com"]), Issuer::new());
    let proxy = asking(&server, ClientCertificates::Required(rules(issuer.authority())));
    let config = config(&[&server.der], Some(&issuer.client("me.com")));
    let mut first = ask(&proxy, config.clone()).unwrap();
    first.head();
    assert_eq!(ask(&proxy, config).unwrap().0.conn.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
}

/// A connection and one that resumes its session, with a certificate that ends soon after.
fn resumed_until_expiry(
    proxy: &Proxy,
    issuer: &Issuer,
    version: &'static SupportedProtocolVersion,
) -> (Issued, ClientConfig) {
    // On a busy machine the shorter lives end before the handshakes.
    for life in [3, 10, 40] {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(life);
        let shown = issuer.issue(&[], |params| params.not_after = date_time_ymd(1970, 1, 1) + end);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(trusting());
        let config = builder.with_client_auth_cert(vec![shown.der.clone()], shown.private_key()).unwrap();
        let resumed = ask(proxy, config.clone()).and_then(|_| ask(proxy, config.clone()));
        if let Ok(resumed) = resumed {
            assert_eq!(resumed.0.conn.handshake_kind(), Some(rustls::HandshakeKind::Resumed), "{version:?}");
            return (shown, config);
        }
    }
    panic!("no certificate lived long enough for two handshakes");
}

#[test]
fn a_session_is_not_resumed_when_the_certificate_has_expired() {
    let (server, issuer) = (make(&["a.com"]), Issuer::new());
    let proxy = asking(&server, ClientCertificates::Required(rules(issuer.authority())));
    for version in [&TLS12, &TLS13] {
        let (shown, config) = resumed_until_expiry(&proxy, &issuer, version);
        let give_up = Instant::now() + Duration::from_secs(90);
        while outcome(&proxy, &server, Some(&shown)).is_ok() {
            assert!(Instant::now() < give_up, "the certificate does not expire");
            std::thread::sleep(Duration::from_millis(100));
        }
        let ask = || ask(&proxy, config.clone()).map(|client| client.0.conn.handshake_kind());
        let resumed = ask();
        // An alert about the certificate would be one of a full handshake.
        assert!(resumed.as_ref().is_err_and(|why| !why.contains("Certificate")), "{version:?}: {resumed:?}");
        // The ticket that it got by the way is worth nothing, or who has a new certificate would never get in.
        let full = ask();
        assert!(full.as_ref().is_err_and(|why| why.contains("Certificate")), "{version:?}: {full:?}");
    }
}

/// Says that it can verify signatures of some kinds only.
fn verifying(mut config: ClientConfig, schemes: &[SignatureScheme]) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    let known = provider.signature_verification_algorithms;
    let mapping: Vec<_> =
        known.mapping.iter().filter(|(scheme, _)| schemes.contains(scheme)).copied().collect();
    provider.signature_verification_algorithms.mapping = Vec::leak(mapping);
    config.dangerous().set_certificate_verifier(Arc::new(Trusting { provider, staple: Arc::default() }));
    config
}

/// Trusts every certificate whose signature it can verify, and keeps the OCSP answer that comes with it.
#[derive(Debug)]
struct Trusting {
    provider: CryptoProvider,
    staple: Arc<Mutex<Vec<u8>>>,
}

/// A verifier that trusts every certificate.
pub(crate) fn trusting() -> Arc<dyn ServerCertVerifier> {
    Arc::new(Trusting { provider: aws_lc_rs::default_provider(), staple: Arc::default() })
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn of_two_certificates_a_client_gets_the_one_it_can_verify() {
    let ecdsa = make(&["a.com"]);
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let rsa = CertificateParams::new(["a.com".to_owned()]).unwrap().self_signed(&key).unwrap().der().clone();
    let certificate = Certificate::new(vec![rsa.clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    let proxy = with_context(&ecdsa, |context| {
        let credential = Credential { name: "rsa".to_owned(), certificate: Some(certificate) };
        context.credentials.insert(0, credential);
    });
    let config = config(&[], None);
    for (schemes, expected) in [
        (&[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256][..], &ecdsa.der),
        (&[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256], &rsa),
    ] {
        let client = ask(&proxy, verifying(config.clone(), schemes)).unwrap();
        assert_eq!(&client.0.conn.peer_certificates().unwrap()[0], expected, "{schemes:?}");
    }
}

#[test]
fn versions_suites_and_groups_are_those_that_are_allowed() {
    let server = make(&["a.com"]);
    let parameters = TlsParameters {
        max_version: Some(TlsVersion::V1_2),
        cipher_suites: vec![CipherSuite::EcdheEcdsaChacha20],
        key_exchanges: vec![KeyExchange::P384],
        ..TlsParameters::default()
    };
    let proxy = with_context(&server, |context| context.parameters = parameters);
    let client = ask(&proxy, config(&[&server.der], None)).unwrap();
    let session = &client.0.conn;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    let suite = session.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::secp384r1);
    let parameters = TlsParameters { min_version: TlsVersion::V1_3, ..TlsParameters::default() };
    let proxy = with_context(&server, |context| context.parameters = parameters);
    let client = ask(&proxy, config(&[&server.der], None)).unwrap();
    assert_eq!(client.0.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[test]
fn clients_that_offer_only_unknown_protocols_are_served_without_one() {
    let server = make(&["a.com"]);
    let proxy = with_context(&server, |_| {});
    for (offered, agreed) in [(&["acme/1"][..], None), (&["acme/1", "http/1.1"], Some(&b"http/1.1"[..]))] {
        let mut config = config(&[&server.der], None);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(ask(&proxy, config).unwrap().0.conn.alpn_protocol(), agreed, "{offered:?}");
    }
}

#[test]
fn a_staple_is_handed_to_clients() {
    let server = make(&["a.com"]);
    let proxy = with_context(&server, |context| {
        let certificate = server.certificate.clone().with_staple(b"good until tomorrow");
        context.credentials[0].certificate = Some(certificate);
    });
    let staple = Arc::default();
    let mut config = config(&[&server.der], None);
    let trusting = Trusting { provider: aws_lc_rs::default_provider(), staple: Arc::clone(&staple) };
    config.dangerous().set_certificate_verifier(Arc::new(trusting));
    ask(&proxy, config).unwrap();
    assert_eq!(*staple.lock().unwrap(), b"good until tomorrow");
}
