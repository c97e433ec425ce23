//! How long certificates are good for, in the families that Envoy and Istio's agent have for it.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use snapshot::Snapshot;

use super::labels::escaped;

/// The families at a time; nothing where there is no certificate.
pub(super) fn certificates(snapshot: &Snapshot, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let secrets = snapshot.secrets();
    let left: Vec<(&str, i64)> = secrets
        .iter()
        .filter_map(|entry| Some((entry.name, entry.facts.as_ref()?.not_after.saturating_sub(now))))
        .collect();
    let Some(first) = left.iter().map(|(_, left)| *left).min() else { return String::new() };
    let (days, seconds) = ("envoy_server_days_until_first_cert_expiring", "istio_agent_cert_expiry_seconds");
    let mut out = format!(
        "# TYPE {days} gauge\n{days} {}\n\
         # HELP {seconds} Time until a certificate expires; negative when it has.\n# TYPE {seconds} gauge\n",
        (first / SECONDS_OF_DAY).max(0)
    );
    for (name, left) in left {
        _ = writeln!(out, "{seconds}{{resource_name=\"{}\"}} {left}", escaped(name));
    }
    out
}

const SECONDS_OF_DAY: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use snapshot::{Certificate, Credential, Draft, TlsContext};

    use super::*;

    #[test]
    fn every_certificate_has_its_time_and_the_first_to_end_counts() {
        let credential = |name: &str, year: i32| {
            let mut params = CertificateParams::new(["a.com".to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(1970, 1, 1), date_time_ymd(year, 1, 1));
            let key = KeyPair::generate().unwrap();
            let chain = vec![params.self_signed(&key).unwrap().der().clone()];
            let key = key.serialize_der().try_into().unwrap();
            Credential { name: name.to_owned(), certificate: Some(Certificate::new(chain, key)) }
        };
        let credentials = vec![credential("default", 1971), credential("kubernetes://b\"", 1972)];
        let credentials =
            credentials.into_iter().chain([Credential { name: "c".to_owned(), certificate: None }]).collect();
        let context = TlsContext { credentials, ..TlsContext::default() };
        let snapshot = Draft { tls_contexts: vec![context], ..Draft::default() }.finish();
        let text = certificates(&snapshot, UNIX_EPOCH + Duration::from_secs(364 * 86400 + 1));
        assert!(text.contains("\nenvoy_server_days_until_first_cert_expiring 0\n"), "{text}");
        assert!(
            text.contains("istio_agent_cert_expiry_seconds{resource_name=\"default\"} 86399\n"),
            "{text}"
        );
        assert!(text.contains("{resource_name=\"kubernetes://b\\\"\"} 31622399\n"), "{text}");
        assert!(!text.contains("=\"c\""), "{text}");
        let late = certificates(&snapshot, UNIX_EPOCH + Duration::from_secs(366 * 86400));
        assert!(late.contains("expiring 0\n") && late.contains("\"default\"} -86400\n"), "{late}");
        assert_eq!(certificates(&Draft::default().finish(), UNIX_EPOCH), "");
    }
}
