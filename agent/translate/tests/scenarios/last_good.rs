//! A certificate that served goes on serving when its Secret breaks or vanishes.

use base64::{Engine, engine::general_purpose::STANDARD};
use resources::{CertificateFiles, Files, ReadDefaults, Severity};
use snapshot::{Certificate, Snapshot};
use translate::{Credentials, Proxy, ProxyKind, Translation, translate};

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

/// What a gateway makes of a text.
fn translation(text: &str, credentials: &Credentials<'_>) -> Translation {
    let mut files = Files::new(ReadDefaults { namespace: "ns".into() });
    files.replace_file("a.yaml", text);
    let certificates = CertificateFiles::default();
    let credentials = Credentials { files: Some(&certificates), ..*credentials };
    translate(&files.resources().0, &credentials, &Proxy::new(ProxyKind::Router, "ns"))
}

/// Snapshot and findings, when `check` judges and `last_good` served before.
fn translated(
    text: &str,
    last_good: Option<&Snapshot>,
    check: fn(&Certificate) -> Result<(), String>,
) -> (Snapshot, Vec<String>) {
    let credentials = Credentials { last_good, check_certificate: check, ..Credentials::UNSEEN };
    let Translation { snapshot, findings, .. } = translation(text, &credentials);
    (snapshot, findings.iter().map(ToString::to_string).collect())
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

/// A Secret with a certificate that is valid from the first day of a year to that of another, and the certificate.
fn valid(from: i32, to: i32) -> (String, Vec<u8>) {
    let mut params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    (secret(&STANDARD.encode(&der)), der)
}

/// What is served in the middle of a year, the errors, and when that changes by itself.
fn in_year(year: i64, secret: &str, last_good: Option<&Snapshot>) -> (Snapshot, Vec<String>, Option<i64>) {
    let now = Some((year - 1970) * 31_556_952 + 180 * 86_400);
    let credentials = Credentials { last_good, now, ..Credentials::UNSEEN };
    let Translation { snapshot, findings, changes_at } =
        translation(&(GATEWAY.to_owned() + secret), &credentials);
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    (snapshot, errors.map(ToString::to_string).collect(), changes_at)
}

fn leaf(snapshot: &Snapshot) -> &[u8] {
    snapshot.tls_contexts()[0].credentials[0].certificate.as_ref().unwrap().chain()[0].as_ref()
}

#[test]
fn a_certificate_that_is_out_of_date_does_not_take_the_place_of_one_that_is_valid() {
    let ((secret, good), (expired_secret, expired), (future_secret, future)) =
        (valid(2020, 2030), valid(2010, 2022), valid(2026, 2040));
    let (before, errors, changes_at) = in_year(2025, &secret, None);
    assert_eq!((leaf(&before), errors, changes_at), (&*good, vec![], None));

    let (kept, errors, changes_at) = in_year(2025, &expired_secret, Some(&before));
    assert_eq!(leaf(&kept), good);
    let expected = "a.yaml:6:107: Gateway ns/gw: spec.servers[0].tls.credentialName: the certificate has expired (valid from \
                    2010-01-01T00:00:00Z to 2022-01-01T00:00:00Z): the one before it stays in force (valid from \
                    2020-01-01T00:00:00Z to 2030-01-01T00:00:00Z) (found `cert`; expected a certificate that is valid \
                    now; renew it)";
    assert_eq!(errors, [expected]);
    // 2030-01-01
    assert_eq!(changes_at, Some(1_893_456_000));
    // It ends itself, and is still the one that was good longest.
    let (kept, errors, _) = in_year(2031, &expired_secret, Some(&kept));
    assert_eq!(leaf(&kept), good);
    assert!(errors[0].contains("the one before it, which has expired as well, stays in force"), "{errors:?}");

    let (kept, errors, changes_at) = in_year(2025, &future_secret, Some(&before));
    assert_eq!(leaf(&kept), good);
    assert!(errors[0].contains("the certificate is not good yet (valid from 2026-01-01"), "{errors:?}");
    // 2026-01-01
    assert_eq!(changes_at, Some(1_767_225_600));
    let (taken, errors, changes_at) = in_year(2026, &future_secret, Some(&kept));
    assert_eq!((leaf(&taken), errors, changes_at), (&*future, vec![], None));

    // Where nothing better is there, what is there serves; and so it does where nobody knows the time.
    for (secret, der) in [(&expired_secret, &expired), (&future_secret, &future)] {
        let (served, errors, changes_at) = in_year(2025, secret, None);
        assert_eq!((leaf(&served), errors, changes_at), (&**der, vec![], None));
    }
    let (served, _) = translated(&(GATEWAY.to_owned() + &expired_secret), Some(&before), |_| Ok(()));
    assert_eq!(leaf(&served), expired);
}
