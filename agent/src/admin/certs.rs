//! `/certs`: the certificates in use, in Envoy's form.

use serde_json::{Value, json};
use snapshot::{AlternativeName, SecretEntry, SecretKind, Snapshot};

/// Every certificate and authority that can be used; `now` is in seconds since 1970.
pub(super) fn certificates(snapshot: &Snapshot, now: i64) -> Value {
    let secrets = snapshot.secrets();
    let certificates: Vec<_> = secrets.iter().filter_map(|secret| certificate(secret, now)).collect();
    json!({"certificates": certificates})
}

fn certificate(secret: &SecretEntry<'_>, now: i64) -> Option<Value> {
    let facts = secret.facts.as_ref()?;
    let days = (facts.not_after.saturating_sub(now) / SECONDS_OF_DAY).max(0);
    let told = json!({
        "path": secret.name,
        "serial_number": facts.serial_bytes(),
        "subject_alt_names": facts.names.iter().filter_map(name).collect::<Vec<_>>(),
        "days_until_expiration": days.to_string(),
        "valid_from": facts.beginning(),
        "expiration_time": facts.expiry(),
    });
    Some(match secret.kind {
        SecretKind::CertificateChain => json!({"ca_cert": [], "cert_chain": [told]}),
        SecretKind::Authority => json!({"ca_cert": [told], "cert_chain": []}),
    })
}

const SECONDS_OF_DAY: i64 = 24 * 60 * 60;

fn name(name: &AlternativeName) -> Option<Value> {
    match name {
        AlternativeName::Dns(name) => Some(json!({"dns": name})),
        AlternativeName::Uri(name) => Some(json!({"uri": name})),
        AlternativeName::Ip(name) => Some(json!({"ip_address": name})),
        // Envoy has no place for them.
        AlternativeName::Email(_) => None,
    }
}
