//! Operators that show something of a certificate.

use super::Operator;

/// Who has shown a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// `DOWNSTREAM_PEER_`: the client.
    Client,
    /// `DOWNSTREAM_LOCAL_`: this proxy, to the client.
    OwnForClient,
    /// `UPSTREAM_PEER_`: the endpoint.
    Endpoint,
    /// `UPSTREAM_LOCAL_`: this proxy, to the endpoint.
    OwnForEndpoint,
}

/// What is shown of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificatePart {
    /// Distinguished name of whom it is for.
    Subject,
    /// Distinguished name of who has signed it.
    Issuer,
    /// In hexadecimal.
    Serial,
    /// SHA-1 of all of it, in hexadecimal.
    Fingerprint1,
    /// SHA-256 of all of it, in hexadecimal.
    Fingerprint256,
    /// Its URIs, joined by commas.
    Uris,
    /// Its host names, joined by commas.
    Hosts,
    /// Its addresses, joined by commas.
    Addresses,
    /// Its mail addresses, joined by commas.
    Emails,
    /// When it begins to be good, with a strftime format if one is written.
    Beginning(Option<String>),
    /// When it stops being good.
    End(Option<String>),
    /// All of it, as PEM escaped for URLs.
    Pem,
}

/// The operator with a name; parts that Envoy shows of some certificates only are there for those.
pub(super) fn operator(name: &str, argument: Option<&str>) -> Option<Operator> {
    let (holder, part) =
        HOLDERS.iter().find_map(|(prefix, holder)| Some((*holder, name.strip_prefix(prefix)?)))?;
    let is_peer = matches!(holder, Holder::Client | Holder::Endpoint);
    let time = || argument.map(str::to_owned);
    let part = match (part, argument) {
        ("CERT_V_START", _) if is_peer => CertificatePart::Beginning(time()),
        ("CERT_V_END", _) if is_peer => CertificatePart::End(time()),
        (_, Some(_)) => return None,
        ("CERT", None) if is_peer => CertificatePart::Pem,
        ("ISSUER", None) if is_peer => CertificatePart::Issuer,
        ("SERIAL", None) if holder == Holder::Client => CertificatePart::Serial,
        ("FINGERPRINT_1", None) if holder == Holder::Client => CertificatePart::Fingerprint1,
        ("FINGERPRINT_256", None) if holder == Holder::Client => CertificatePart::Fingerprint256,
        ("SUBJECT", None) if holder != Holder::OwnForEndpoint => CertificatePart::Subject,
        ("URI_SAN", None) => CertificatePart::Uris,
        ("DNS_SAN", None) => CertificatePart::Hosts,
        ("IP_SAN", None) => CertificatePart::Addresses,
        ("EMAIL_SAN", None) if matches!(holder, Holder::Client | Holder::OwnForClient) => {
            CertificatePart::Emails
        }
        _ => return None,
    };
    Some(Operator::Certificate(holder, part))
}

/// Whether an operator of that name exists, whatever is written behind it.
pub(super) fn exists(name: &str) -> bool {
    operator(name, None).is_some()
}

const HOLDERS: [(&str, Holder); 4] = [
    ("DOWNSTREAM_PEER_", Holder::Client),
    ("DOWNSTREAM_LOCAL_", Holder::OwnForClient),
    ("UPSTREAM_PEER_", Holder::Endpoint),
    ("UPSTREAM_LOCAL_", Holder::OwnForEndpoint),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_shown_of_whom_envoy_shows_them() {
        let of = |name| operator(name, None);
        let shown = |holder, part| Some(Operator::Certificate(holder, part));
        assert_eq!(of("DOWNSTREAM_PEER_SERIAL"), shown(Holder::Client, CertificatePart::Serial));
        assert_eq!(of("UPSTREAM_PEER_CERT"), shown(Holder::Endpoint, CertificatePart::Pem));
        assert_eq!(of("UPSTREAM_LOCAL_IP_SAN"), shown(Holder::OwnForEndpoint, CertificatePart::Addresses));
        for none in [
            "UPSTREAM_PEER_SERIAL",
            "UPSTREAM_LOCAL_SUBJECT",
            "DOWNSTREAM_LOCAL_CERT",
            "DOWNSTREAM_LOCAL_ADDRESS",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
        let year = operator("DOWNSTREAM_PEER_CERT_V_START", Some("%Y"));
        assert_eq!(year, shown(Holder::Client, CertificatePart::Beginning(Some("%Y".to_owned()))));
        assert_eq!(operator("DOWNSTREAM_PEER_SUBJECT", Some("a")), None);
    }
}
