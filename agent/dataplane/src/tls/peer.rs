//! What a client has proved to be, in the words of access logs and of `x-forwarded-client-cert`.

use std::{cell::RefCell, fmt::Write, rc::Rc, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{CipherSuite, ClientConnection, ProtocolVersion, ServerConnection, pki_types::CertificateDer};
use snapshot::{AlternativeName, CertificateFacts, ClientCertDetails};

use super::{
    presented::{PresentedCertificate, PresentedCertificates},
    server::Terms,
};

/// What a handshake with a client came to.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// In Envoy's words: `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The cipher suite, in Envoy's words: `TLS_AES_256_GCM_SHA384`, `ECDHE-RSA-AES128-GCM-SHA256`.
    pub(crate) cipher: &'static str,
    /// Whether the client and we agreed on HTTP/2.
    pub(crate) is_http2: bool,
    /// What the client has shown, if anything.
    pub(crate) client: Option<Rc<ClientCertificate>>,
    /// The certificates themselves, where access logs show more of them.
    pub(crate) shown: Option<Box<PresentedCertificates>>,
    /// What was asked of the client, or asked last by a later configuration, and was met.
    pub(crate) terms: RefCell<Arc<Terms>>,
    /// What it has shown, its own first: other terms may have to be met by it.
    pub(crate) certificates: Box<[CertificateDer<'static>]>,
    /// The version agreed on, for the same reason.
    pub(crate) agreed: Option<ProtocolVersion>,
}

/// What a handshake with an endpoint came to, for access logs.
#[derive(Debug)]
pub(crate) struct UpstreamSession {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) shown: PresentedCertificates,
}

impl UpstreamSession {
    pub(super) fn of(session: &ClientConnection, own: Option<&CertificateDer<'_>>) -> Self {
        let peer = session.peer_certificates().and_then(|chain| chain.first());
        Self {
            version: version(session.protocol_version()),
            cipher: session.negotiated_cipher_suite().map_or("", |suite| cipher(suite.suite())),
            shown: PresentedCertificates {
                peer: peer.map(PresentedCertificate::new),
                own: own.map(PresentedCertificate::new),
            },
        }
    }
}

/// A certificate that a client has shown.
#[derive(Debug, Default)]
pub(crate) struct ClientCertificate {
    /// Distinguished name as in RFC 4514.
    pub(crate) subject: String,
    /// Its URIs, joined by commas.
    pub(crate) uris: String,
    /// An element of `x-forwarded-client-cert`.
    pub(crate) element: String,
}

/// The certificate that clients of a context are shown, where there is one for all.
#[derive(Default)]
pub(super) struct OwnCertificate {
    pub(super) certificate: Option<CertificateDer<'static>>,
    /// What it names the workload.
    pub(super) uris: Vec<String>,
}

/// What is kept of certificates after the handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetainedFields {
    /// What endpoints are told of the client's.
    pub(crate) for_endpoints: ClientCertDetails,
    /// Whether lines show more than its subject and URIs.
    pub(crate) for_logs: bool,
}

impl Session {
    /// What is known after the handshake, in which `own` was shown to the client, who has met the terms.
    pub(super) fn of(
        session: &ServerConnection,
        own: &OwnCertificate,
        (terms, kept): (Arc<Terms>, RetainedFields),
    ) -> Self {
        let shown = session.peer_certificates().unwrap_or_default();
        let client = ClientCertificate::of(shown, &own.uris, kept.for_endpoints).map(Rc::new);
        let both = || PresentedCertificates {
            peer: shown.first().map(PresentedCertificate::new),
            own: own.certificate.as_ref().map(PresentedCertificate::new),
        };
        let both = kept.for_logs.then(|| Box::new(both()));
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let cipher = session.negotiated_cipher_suite().map_or("", |suite| cipher(suite.suite()));
        let agreed = session.protocol_version();
        let certificates = shown.iter().map(|one| one.clone().into_owned()).collect();
        let terms = RefCell::new(terms);
        Self { version: version(agreed), cipher, is_http2, client, shown: both, terms, certificates, agreed }
    }
}

/// The name that Envoy has for a suite; empty for one that is never agreed to.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

impl ClientCertificate {
    /// The identity it proves: the first of its URIs, empty when there is none.
    pub(crate) fn principal(&self) -> &str {
        self.uris.split(',').next().unwrap_or_default()
    }

    /// The first of the certificates that were shown.
    pub(crate) fn of(
        shown: &[CertificateDer<'_>],
        own_uris: &[String],
        details: ClientCertDetails,
    ) -> Option<Self> {
        let facts = CertificateFacts::of(shown.first()?).ok()?;
        let element = element(shown, &facts, own_uris, details);
        let uris = uris(&facts).collect::<Vec<_>>().join(",");
        Some(Self { subject: facts.subject, uris, element })
    }
}

pub(super) fn uris(facts: &CertificateFacts) -> impl Iterator<Item = &str> {
    facts.names.iter().filter_map(|name| match name {
        AlternativeName::Uri(uri) => Some(uri.as_str()),
        _ => None,
    })
}

/// The pairs that Envoy writes, in its order.
fn element(
    shown: &[CertificateDer<'_>],
    facts: &CertificateFacts,
    own_uris: &[String],
    details: ClientCertDetails,
) -> String {
    let first = shown.first().map_or(&[][..], |first| first);
    let mut out = String::new();
    own_uris.iter().for_each(|uri| pair("By", uri, &mut out));
    let hash: String = digest(&SHA256, first).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    pair("Hash", &hash, &mut out);
    if details.cert {
        _ = write!(out, ";Cert=\"{}\"", encoded_pem(first));
    }
    if details.chain {
        let chain: String = shown.iter().map(|certificate| encoded_pem(certificate)).collect();
        _ = write!(out, ";Chain=\"{chain}\"");
    }
    if details.subject {
        // Escaped already, as distinguished names are.
        _ = write!(out, ";Subject=\"{}\"", facts.subject);
    }
    if details.uri {
        uris(facts).for_each(|uri| pair("URI", uri, &mut out));
    }
    for name in facts.names.iter().filter(|_| details.dns) {
        if let AlternativeName::Dns(host) = name {
            pair("DNS", host, &mut out);
        }
    }
    out
}

/// A name that could be taken for more than it is stands between quotes; what cannot stand in a field is escaped. Names
/// are what an authority let through, which may be anything.
fn pair(key: &str, value: &str, out: &mut String) {
    if !out.is_empty() {
        out.push(';');
    }
    let quoted = value.contains([',', ';', '"', '\\', ' ']);
    // Writing into memory cannot fail.
    _ = write!(out, "{key}={}", if quoted { "\"" } else { "" });
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
    if quoted {
        out.push('"');
    }
}

/// PEM with what means something in URLs escaped.
pub(super) fn encoded_pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut out = "-----BEGIN%20CERTIFICATE-----%0A".to_owned();
    for (index, char) in text.chars().enumerate() {
        if index > 0 && index % LINE == 0 {
            out.push_str("%0A");
        }
        match char {
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            plain => out.push(plain),
        }
    }
    out + "%0A-----END%20CERTIFICATE-----%0A"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What they tell by default.
    const SIDECARS: ClientCertDetails =
        ClientCertDetails { subject: true, cert: false, chain: false, dns: true, uri: true };

    fn facts(names: Vec<AlternativeName>) -> CertificateFacts {
        CertificateFacts {
            subject: "CN=client,O=Ac\\,me".to_owned(),
            serial: String::new(),
            not_before: 0,
            not_after: 0,
            names,
            issuer: String::new(),
            public_key: Vec::new(),
        }
    }

    #[test]
    fn every_cipher_suite_has_the_name_by_which_it_is_configured() {
        let configured = snapshot::CipherSuite::NAMES.map(|(name, _)| name);
        for suite in rustls::crypto::aws_lc_rs::default_provider().cipher_suites {
            let name = cipher(suite.suite());
            assert!(configured.contains(&name) || name.starts_with("TLS_"), "{suite:?}: {name}");
        }
    }

    #[test]
    fn the_element_is_as_envoy_writes_it() {
        let names = [
            AlternativeName::Dns("c.com".to_owned()),
            AlternativeName::Uri("spiffe://td/ns/a/sa/b".to_owned()),
            AlternativeName::Email("me@a.com".to_owned()),
            AlternativeName::Dns("d.com".to_owned()),
        ];
        let own = ["spiffe://td/ns/own/sa/x".to_owned()];
        let shown = [vec![1, 2, 3], vec![4]].map(CertificateDer::from);
        let hash = "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81";
        assert_eq!(
            element(&shown, &facts(names.clone().into()), &own, SIDECARS),
            format!(
                "By=spiffe://td/ns/own/sa/x;Hash={hash};Subject=\"CN=client,O=Ac\\,me\";\
                 URI=spiffe://td/ns/a/sa/b;DNS=c.com;DNS=d.com"
            )
        );
        let pem =
            |text: &str| format!("-----BEGIN%20CERTIFICATE-----%0A{text}%0A-----END%20CERTIFICATE-----%0A");
        let (first, second) = (pem("AQID"), pem("BA%3D%3D"));
        assert_eq!(
            element(&shown, &facts(vec![]), &[], ClientCertDetails { cert: true, ..SIDECARS }),
            format!("Hash={hash};Cert=\"{first}\";Subject=\"CN=client,O=Ac\\,me\"")
        );
        let chain = ClientCertDetails { subject: false, cert: false, chain: true, dns: true, uri: false };
        assert_eq!(
            element(&shown, &facts(names.into()), &[], chain),
            format!("Hash={hash};Chain=\"{first}{second}\";DNS=c.com;DNS=d.com")
        );
        assert!(
            encoded_pem(&[0xff; 49]).contains("%2F%2F%0A%2Fw%3D%3D%0A--"),
            "{}",
            encoded_pem(&[0xff; 49])
        );
    }

    #[test]
    fn a_name_cannot_pretend_to_be_another_pair_or_field() {
        let mut out = String::new();
        pair("URI", "x;By=spiffe://evil,\"\r\nhost: b", &mut out);
        assert_eq!(out, "URI=\"x;By=spiffe://evil,\\\"%0D%0Ahost: b\"");
    }
}
