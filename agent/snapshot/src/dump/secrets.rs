//! Certificates and authorities in Envoy's form. Keys are never among them.

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
        "valid_from": facts.beginning(),
        "expiration_time": facts.expiry(),
    })
}
