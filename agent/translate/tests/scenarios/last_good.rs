//! A certificate that served goes on serving when its Secret breaks or vanishes.

use resources::{CertificateFiles, Files, ReadDefaults};
use snapshot::{Certificate, Snapshot};
use translate::{Credentials, Proxy, ProxyKind, translate};

const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  servers:\n  \
                       - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], \
                       tls: {mode: SIMPLE, credentialName: cert}}\n---\n";

fn secret(certificate: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\nstringData:\n  \
         tls.crt: \"-----BEGIN CERTIFICATE-----\\n{certificate}\\n-----END CERTIFICATE-----\\n\"\n  \
         tls.key: \"-----BEGIN PRIVATE KEY-----\\nAQID\\n-----END PRIVATE KEY-----\\n\"\n"
    )
}

/// Snapshot and findings, when `check` judges and `last_good` served before.
fn translated(
    text: &str,
    last_good: Option<&Snapshot>,
    check: fn(&Certificate) -> Result<(), String>,
) -> (Snapshot, Vec<String>) {
    let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
    files.replace_file("a.yaml", text);
    let certificates = CertificateFiles::default();
    let credentials = Credentials {
        files: Some(&certificates),
        last_good,
        check_certificate: check,
        ..Credentials::UNSEEN
    };
    let proxy = Proxy::new(ProxyKind::Router, "ns");
    let translation = translate(&files.resources().0, &credentials, &proxy);
    let findings = translation.findings.iter().map(ToString::to_string).collect();
    (translation.snapshot, findings)
}

#[test]
fn the_last_good_certificate_stays_and_a_finding_says_so() {
    let (good, findings) = translated(&(GATEWAY.to_owned() + &secret("AQID")), None, |_| Ok(()));
    assert!(
        good.tls_contexts()[0].credentials[0].certificate.is_some() && findings.is_empty(),
        "{findings:?}"
    );
    for (worse, why) in [
        (String::new(), "there is no such Secret in namespace `ns`"),
        (secret("!"), "the certificate in Secret ns/cert is not base64 between its PEM lines"),
        (secret("BAUG"), "cannot be used: too weak"),
    ] {
        let (kept, findings) =
            translated(&(GATEWAY.to_owned() + &worse), Some(&good), |_| Err("too weak".to_owned()));
        assert_eq!(kept.tls_contexts(), good.tls_contexts());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains(why), "{findings:?}");
        assert!(findings[0].contains("the last good certificate stays in force"), "{findings:?}");
    }
    let (renewed, findings) = translated(&(GATEWAY.to_owned() + &secret("BAUG")), Some(&good), |_| Ok(()));
    let renewed = renewed.tls_contexts()[0].credentials[0].certificate.clone();
    assert_eq!(renewed.unwrap().chain()[0].as_ref(), [4, 5, 6]);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_certificate_in_service_is_not_checked_again() {
    let text = GATEWAY.to_owned() + &secret("AQID");
    let (good, _) = translated(&text, None, |_| Ok(()));
    let (again, findings) = translated(&text, Some(&good), |_| Err("checked".to_owned()));
    assert_eq!((again.tls_contexts(), findings), (good.tls_contexts(), vec![]));
}
