//! A server that terminates TLS keeps what it had where what it names now cannot be used, and never asks less of clients.

use resources::{CertificateFiles, Files, ReadDefaults, Severity};
use snapshot::{ClientCertificates, NameMatch, PeerRules, Snapshot, TlsContext, TlsVersion};
use translate::{Credentials, Proxy, ProxyKind, translate};

/// A Gateway with one server, and Secrets: `shop` has a certificate, `mutual` one and a CA certificate, too.
fn gateway(tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  \
         - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.com], tls: {{{tls}}}}}\n---\n{}{}",
        secret("shop", "AQID", ""),
        secret("mutual", "BAUG", "BwgJ"),
    )
}

fn secret(name: &str, certificate: &str, authority: &str) -> String {
    let pem =
        |label: &str, text: &str| format!("\"-----BEGIN {label}-----\\n{text}\\n-----END {label}-----\\n\"");
    let mut secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  tls.crt: {}\n  tls.key: {}\n",
        pem("CERTIFICATE", certificate),
        pem("PRIVATE KEY", "AQID"),
    );
    if !authority.is_empty() {
        secret += &format!("  ca.crt: {}\n", pem("CERTIFICATE", authority));
    }
    secret + "---\n"
}

const SIMPLE: &str = "mode: SIMPLE, credentialName: shop";
const MUTUAL: &str = "mode: MUTUAL, credentialName: mutual, subjectAltNames: [client]";

fn served(text: &str, last_good: Option<&Snapshot>) -> (Snapshot, Vec<String>) {
    let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
    files.replace_file("a.yaml", text);
    let (certificates, (set, refused)) = (CertificateFiles::default(), files.resources());
    assert!(refused.is_empty(), "{refused:?}");
    let credentials = Credentials { files: Some(&certificates), last_good, ..Credentials::UNSEEN };
    let translation = translate(&set, &credentials, &Proxy::new(ProxyKind::Router, "ns"));
    let errors = translation.findings.iter().filter(|finding| finding.severity == Severity::Error);
    (translation.snapshot, errors.map(ToString::to_string).collect())
}

/// What is served once `tls` takes the place of `before`, and the only error.
fn changed(before: &str, tls: &str) -> (TlsContext, String) {
    let (before, errors) = served(&gateway(before), None);
    assert_eq!(errors, Vec::<String>::new());
    let (now, errors) = served(&gateway(tls), Some(&before));
    assert_eq!((now.tls_contexts().len(), errors.len()), (1, 1), "{errors:?}");
    (now.tls_contexts()[0].clone(), errors.concat())
}

fn leaf(context: &TlsContext) -> &[u8] {
    context.credentials[0].certificate.as_ref().unwrap().chain()[0].as_ref()
}

fn rules(context: &TlsContext) -> &PeerRules {
    let ClientCertificates::Required(rules) = &context.clients else { panic!("{:?}", context.clients) };
    rules
}

#[test]
fn a_name_that_leads_nowhere_leaves_the_certificate_in_service() {
    let (before, _) = served(&gateway(SIMPLE), None);
    let typing_error = gateway("mode: SIMPLE, credentialName: shopp");
    let (kept, errors) = served(&typing_error, Some(&before));
    assert_eq!(kept.tls_contexts(), before.tls_contexts());
    let told = "spec.servers[0].tls.credentialName: there is no such Secret in namespace `ns`: the last good certificate of \
                this server, `kubernetes://shop`, stays in force (";
    assert!(errors.len() == 1 && errors[0].contains(told), "{errors:?}");
    // However often that is looked at, and whatever becomes of the Secret.
    let renewed = typing_error.replace("AQID", "CgsM");
    let (renewed, _) = served(&renewed, Some(&kept));
    assert_eq!(leaf(&renewed.tls_contexts()[0]), [10, 11, 12]);
    let without = typing_error.replace("name: shop}", "name: other}");
    let (kept, _) = served(&without, Some(&renewed));
    assert_eq!(kept.tls_contexts(), renewed.tls_contexts());
    // Corrected, it is as if nothing had been.
    let (corrected, errors) = served(&gateway(SIMPLE), Some(&kept));
    assert_eq!((corrected.tls_contexts(), errors), (before.tls_contexts(), vec![]));
}

#[test]
fn another_server_has_no_claim_to_the_certificate() {
    let (before, _) = served(&gateway(SIMPLE), None);
    let typing_error = gateway("mode: SIMPLE, credentialName: shopp");
    for (from, to) in [("[a.com]", "[b.com]"), ("name: gw}", "name: gx}"), ("number: 443", "number: 444")] {
        let (now, errors) = served(&typing_error.replace(from, to), Some(&before));
        let context = &now.tls_contexts()[0];
        assert!(context.missing.is_some() && context.credentials[0].certificate.is_none(), "{to}");
        assert!(errors[0].contains("TLS handshakes that need it are refused"), "{errors:?}");
    }
    let (more, _) = served(&typing_error.replace("[a.com]", "[b.com, a.com]"), Some(&before));
    assert_eq!(leaf(&more.tls_contexts()[0]), [1, 2, 3]);
}

#[test]
fn a_server_that_has_come_to_verify_clients_serves_nobody_without_an_authority() {
    for tls in ["mode: MUTUAL, credentialName: shop", "mode: OPTIONAL_MUTUAL, credentialName: shop"] {
        let (context, error) = changed(SIMPLE, tls);
        assert!(context.missing.is_some() && context.clients.authority().unwrap().bundle.is_none());
        let told = "TLS handshakes are refused, because the clients cannot be verified without it";
        assert!(error.contains("Secret ns/shop holds no CA certificate") && error.contains(told), "{error}");
    }
}

#[test]
fn an_authority_stays_with_its_conditions_on_clients() {
    let without = "mode: MUTUAL, credentialName: shop";
    let (context, error) = changed(MUTUAL, without);
    // What can be used is as it is written.
    assert_eq!((leaf(&context), &context.missing), (&[1, 2, 3][..], &None));
    assert!(error.contains("CA certificate of this server, `kubernetes://mutual-cacert`, stays"), "{error}");
    let rules = rules(&context);
    assert_eq!(rules.authority.bundle.as_ref().unwrap().certificates[0].as_ref(), [7, 8, 9]);
    assert_eq!(rules.names, [NameMatch::Exact("client".to_owned())]);
    // Nor do they give way to others, of which nobody knows what they mean for clients of that authority.
    let (context, error) = changed(MUTUAL, &format!("{without}, subjectAltNames: [stranger]"));
    assert!(context.missing.is_some() && error.contains("TLS handshakes are refused"), "{error}");
    // Less may be asked where that is what is written.
    let (context, _) = changed(MUTUAL, "mode: SIMPLE, credentialName: mutua");
    assert_eq!((leaf(&context), &context.clients), (&[4, 5, 6][..], &ClientCertificates::NotAsked));
}

#[test]
fn algorithms_that_are_not_spoken_leave_those_that_are() {
    let before = format!("{SIMPLE}, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]");
    let wrong = format!("{SIMPLE}, cipherSuites: [AES128-SHA]");
    let (context, error) = changed(&before, &wrong);
    assert_eq!((leaf(&context), context.parameters.cipher_suites.len()), (&[1, 2, 3][..], 1));
    let told = "the last good choice of versions and algorithms of this server stays in force";
    assert!(error.contains(told), "{error}");
    // But for a lower version than may be spoken now.
    let wrong = format!("{SIMPLE}, minProtocolVersion: TLSV1_3, ecdhCurves: [P-521]");
    let (context, error) = changed(&before, &wrong);
    assert!(context.missing.is_some() && error.contains("TLS handshakes"), "{error}");
    let (context, _) = changed(&format!("{SIMPLE}, minProtocolVersion: TLSV1_3"), &wrong);
    assert_eq!((context.missing, context.parameters.min_version), (None, TlsVersion::V1_3));
}

#[test]
fn ports_of_sidecars_keep_their_certificate_too() {
    let text = |certificate: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: sc}}\nspec:\n  \
             workloadSelector: {{labels: {{app: web}}}}\n  ingress:\n  - {{port: {{number: 9443, name: https, protocol: \
             HTTPS}}, defaultEndpoint: '127.0.0.1:8080', tls: {{mode: SIMPLE, serverCertificate: {certificate}, \
             privateKey: /a.key}}}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: off}}\nspec:\n  \
             selector: {{matchLabels: {{app: web}}}}\n  portLevelMtls: {{9443: {{mode: DISABLE}}}}\n"
        )
    };
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAQID\n-----END {label}-----\n").into_bytes();
    let mut certificates = CertificateFiles::default();
    certificates.insert("/a.crt".to_owned(), Ok(pem("CERTIFICATE")));
    certificates.insert("/a.key".to_owned(), Ok(pem("PRIVATE KEY")));
    let of = |certificate: &str, last_good: Option<&Snapshot>| {
        let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
        files.replace_file("a.yaml", &text(certificate));
        let credentials = Credentials { files: Some(&certificates), last_good, ..Credentials::UNSEEN };
        let mut proxy = Proxy::new(ProxyKind::Sidecar, "ns");
        proxy.labels = [("app".to_owned(), "web".to_owned())].into_iter().collect();
        translate(&files.resources().0, &credentials, &proxy).snapshot
    };
    let before = of("/a.crt", None);
    assert_eq!(leaf(&before.tls_contexts()[0]), [1, 2, 3]);
    assert_eq!(of("/aa.crt", Some(&before)).tls_contexts(), before.tls_contexts());
}
