//! What the access log says of endpoints whose certificate is refused.

use std::sync::Arc;

use rcgen::DnType;
use snapshot::{Authority, NameMatch, ServerCheck};

use crate::{
    handshakes::Lines,
    issuer::{Issued, Issuer},
    origination::{TlsServer, by, dns, status, tls},
    support::{Proxy, gateway_draft},
};

/// Asks an endpoint that shows this for `a.com`, and expects a line with these words.
fn assert_refused(shown: &Issued, check: ServerCheck, reason: &str) {
    let (endpoint, lines) = (TlsServer::start(shown, None, &[]), Lines::default());
    let proxy = Proxy::start(lines.settings(), |address| {
        let mut draft = gateway_draft(address, &[endpoint.address]);
        draft.clusters[0].tls = Some(Arc::new(tls(check)));
        draft
    });
    assert_eq!(status(&proxy, "a.com"), "503");
    let line = lines.with("TLS_error:_");
    let expected = format!("TLS_error:_{}", reason.replace(' ', "_"));
    assert!(line.contains(&expected), "expected {expected}, found {line}");
}

fn named(authority: Authority, names: Vec<NameMatch>) -> ServerCheck {
    ServerCheck::Authority(Authority { name: "file-root:/ca.pem".to_owned(), ..authority }, names)
}

#[test]
fn a_certificate_without_the_names_is_told_with_those_it_has() {
    let issuer = Issuer::new();
    let shown = issuer.issue(&["a.com", "b.com", "c.com", "d.com", "e.com"].map(dns), |_| {});
    let names = vec![NameMatch::Exact("x.com".to_owned()), NameMatch::Prefix("spiffe://td/ns/a/".to_owned())];
    let reason = "the endpoint's certificate has none of the names that are expected (`x.com`, \
                  `spiffe://td/ns/a/*`): it is for `a.com`, `b.com`, `c.com`, `d.com` and 1 more";
    assert_refused(&shown, named(issuer.authority(), names), reason);
    // Without names in the configuration it is the server name that is missing.
    assert_refused(&issuer.issue(&[dns("b.com")], |_| {}), by(&issuer, &[]), "invalid peer certificate: ");
}

#[test]
fn authorities_that_a_certificate_is_not_of_are_told() {
    let issuer = Issuer::new();
    let shown = issuer.issue(&[dns("a.com")], |_| {});
    let reason = "the endpoint's certificate is of no authority in `file-root:/ca.pem`";
    let other = Issuer::with(|params| params.distinguished_name.push(DnType::CommonName, "other"));
    assert_refused(&shown, named(other.authority(), vec![]), reason);
    let reason =
        "the endpoint's certificate is not signed by the authority of its name in `file-root:/ca.pem`";
    assert_refused(&shown, named(Issuer::new().authority(), vec![]), reason);
    let reason = "the endpoint's certificate is revoked by its authority in `file-root:/ca.pem`";
    assert_refused(&shown, named(issuer.revoking(&[&shown]), vec![]), reason);
    let by_itself = Issued::by_itself("a.com", |_| {});
    let reason = "the endpoint's certificate is itself a CA certificate (or signed by itself) and not among those of \
                  `file-root:/ca.pem`; with a revocation list none such is trusted";
    assert_refused(&by_itself, named(issuer.authority(), vec![]), reason);
}
