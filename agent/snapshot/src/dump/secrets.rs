//! Certificates and authorities in Envoy's form. Keys are never among them.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{
    CertificateFacts, SecretEntry, SecretKind,
    tls::{AlternativeName, REDACTED},
};

/// What there is of a secret, with what its certificate says of itself.
pub(super) fn secret(entry: &SecretEntry<'_>) -> Value {
    let content = match entry.kind {
        SecretKind::CertificateChain => {
            json!({"name": entry.name, "tls_certificate": {"private_key": {"inline_string": REDACTED}}})
        }
        SecretKind::Authority => json!({"name": entry.name, "validation_context": {}}),
    };
    let mut dump = json!({"name": entry.name, "secret": content});
    if let Some(facts) = &entry.facts {
        dump["certificate"] = certificate(facts);
    }
    dump
}

fn certificate(facts: &CertificateFacts) -> Value {
    json!({
        "subject": facts.subject,
        "subject_alt_names": facts.names.iter().map(AlternativeName::as_str).collect::<Vec<_>>(),
        "serial_number": facts.serial,
        "valid_from": time(facts.not_before),
        "expiration_time": time(facts.not_after),
    })
}

/// `2026-01-02T03:04:05Z`; times before 1970 are taken for its beginning.
fn time(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // Certificates may claim to be good for ever, but not longer than the year 9999.
    let latest = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since.min(latest)).to_string()
}
