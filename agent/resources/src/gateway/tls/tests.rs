use crate::testing::{findings, gateway};

fn https(tls: &str) -> String {
    let port = "port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.com]";
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  servers:\n  - {{{port}, tls: {{{tls}}}}}\n"
    )
}

#[test]
fn every_source_of_certificates_is_accepted_alone() {
    for tls in [
        "mode: SIMPLE, credentialName: a",
        "mode: SIMPLE, credentialNames: [a, b]",
        "mode: SIMPLE, serverCertificate: /c, privateKey: /k",
        "mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, subjectAltNames: [a.b]",
        "mode: OPTIONAL_MUTUAL, credentialName: a, caCertCredentialName: b",
        "mode: SIMPLE, tlsCertificates: [{serverCertificate: /c, privateKey: /k}]",
        "mode: MUTUAL, tlsCertificates: [{serverCertificate: /c, privateKey: /k, caCertificates: /ca}]",
        "mode: MUTUAL, caCertificates: /ca, tlsCertificates: [{serverCertificate: /c, privateKey: /k}]",
        "mode: ISTIO_MUTUAL",
        "mode: PASSTHROUGH",
        "",
    ] {
        assert_eq!(findings(&https(tls)), Vec::<String>::new(), "{tls}");
    }
    assert_eq!(gateway(&https("")).servers[0].tls.as_ref().unwrap().mode, crate::TlsMode::Passthrough);
}

#[test]
fn incomplete_or_contradicting_settings_are_one_message_each() {
    for (tls, wrong) in [
        ("mode: SIMPLE", "tls: has no certificate for mode SIMPLE"),
        ("mode: SIMPLE, serverCertificate: /c", "privateKey: is missing in mode SIMPLE"),
        ("mode: MUTUAL, privateKey: /k", "serverCertificate: is missing in mode MUTUAL"),
        ("mode: MUTUAL, serverCertificate: /c, privateKey: /k", "caCertificates: is missing in mode MUTUAL"),
        (
            "mode: SIMPLE, credentialName: a, privateKey: /k",
            "tls: names more than one source of certificates",
        ),
        ("mode: ISTIO_MUTUAL, credentialName: a", "credentialName: is used together with mode ISTIO_MUTUAL"),
        ("mode: PASSTHROUGH, credentialName: a", "credentialName: has no effect in mode PASSTHROUGH"),
        ("mode: SIMPEL, credentialName: a", "did you mean `SIMPLE`?"),
        ("mode: simple, credentialName: a", "did you mean `SIMPLE`?"),
        (
            "mode: SIMPLE, tlsCertificates: [{serverCertificate: /c}]",
            "tlsCertificates[0].privateKey: is missing",
        ),
        (
            "mode: OPTIONAL_MUTUAL, tlsCertificates: [{serverCertificate: /c, privateKey: /k}]",
            "caCertificates: is missing in mode OPTIONAL_MUTUAL",
        ),
        ("mode: SIMPLE, credentialNames: [a, b, c]", "credentialNames: names more than two certificates"),
        (
            "mode: ISTIO_MUTUAL, caCertCredentialName: a",
            "caCertCredentialName: is used together with mode ISTIO_MUTUAL",
        ),
    ] {
        let findings = findings(&https(tls));
        assert_eq!(findings.len(), 1, "{tls}: {findings:#?}");
        assert!(findings[0].contains(wrong), "{tls}: {findings:#?}");
    }
}

/// What is said of a SIMPLE server with these settings, besides that they have no effect yet.
fn complaint(tls: &str) -> String {
    let mut findings = findings(&https(&format!("mode: SIMPLE, credentialName: a, {tls}")));
    findings.retain(|finding| !finding.contains("is not supported yet and has no effect ("));
    assert_eq!(findings.len(), 1, "{tls}: {findings:#?}");
    findings.remove(0)
}

#[test]
fn versions_ciphers_and_fingerprints_are_checked() {
    let digest = "ab".repeat(32);
    for (tls, wrong) in [
        ("minProtocolVersion: TLS1_2", "did you mean `TLSV1_2`?"),
        (
            "minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2",
            "minProtocolVersion: is above `maxProtocolVersion: TLSV1_2`",
        ),
        ("minProtocolVersion: TLSV1_1", "minProtocolVersion: is below TLS 1.2"),
        (
            "cipherSuites: [AES128-SHA2]",
            "cipherSuites[0]: is not known and is left out (found `AES128-SHA2`; did you mean `AES128-SHA`?)",
        ),
        ("cipherSuites: [AES128-SHA, AES128-SHA]", "cipherSuites[1]: is written twice (found `AES128-SHA`; "),
        (
            "ecdhCurves: [P256]",
            "ecdhCurves[0]: is not known and is left out (found `P256`; did you mean `P-256`?)",
        ),
        ("verifyCertificateSpki: [abc]", "verifyCertificateSpki[0]: is no fingerprint (found `abc`"),
        ("verifyCertificateHash: ['ab:cd']", "verifyCertificateHash[0]: is no fingerprint"),
        ("caCrl: /crl", "caCrl: has no meaning in mode SIMPLE (use mode MUTUAL)"),
    ] {
        assert!(complaint(tls).contains(wrong), "{tls}: {}", complaint(tls));
    }
    let both = format!("verifyCertificateHash: ['{digest}', '{}']", ["ab"; 32].join(":"));
    let findings = findings(&https(&format!("mode: SIMPLE, credentialName: a, {both}")));
    assert!(findings.iter().all(|finding| finding.contains("not supported yet")), "{findings:#?}");
}
