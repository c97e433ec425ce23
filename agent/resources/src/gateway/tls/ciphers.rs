//! Cipher suites, curves and versions that a Gateway server asks for.

use super::{ServerTls, TlsVersion};
use crate::{
    Path,
    decode::{Context, one_of},
    finding::{Problem, Rule},
    suggest::did_you_mean,
};

/// Names of OpenSSL that Istio takes for TLS 1.2 and below; the suites of TLS 1.3 are not for choice.
const CIPHER_SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "AES256-SHA",
    "AES128-SHA",
    "DES-CBC3-SHA",
];

const CURVES: [&str; 5] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768"];

/// Warns of names that are unknown or written twice: they are left out.
pub(super) fn check_names(tls: &ServerTls, at: &Path<'_>, context: &mut Context<'_>) {
    let lists: [(&str, &[String], &[&'static str]); 2] =
        [("cipherSuites", &tls.cipher_suites, &CIPHER_SUITES), ("ecdhCurves", &tls.ecdh_curves, &CURVES)];
    for (field, list, known) in lists {
        let at = at.field(field);
        for (index, name) in list.iter().enumerate() {
            let problem = if !known.contains(&name.as_str()) {
                let meant = did_you_mean(name, known.iter().copied());
                let problem = Problem::new("is not known and is left out").found(name);
                problem.meant_or_expected(meant, || one_of(known))
            } else if list[..index].iter().take(MOST_COMPARED).any(|earlier| earlier == name) {
                Problem::new("is written twice").found(name).remedy("remove one of the two")
            } else {
                continue;
            };
            context.warning(Rule::Invalid, &at.index(index), problem);
        }
    }
}

// Pairs are compared only in lists that a person could have written.
const MOST_COMPARED: usize = 1_000;

pub(super) fn check_versions(tls: &ServerTls, at: &Path<'_>, context: &mut Context<'_>) {
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if max != TlsVersion::Auto && min > max {
        let problem =
            Problem::new(format!("is above `maxProtocolVersion: {}`", max.name())).found(min.name());
        context.error(&at.field("minProtocolVersion"), problem.expected("a version up to it"));
    }
    if matches!(min, TlsVersion::V1_0 | TlsVersion::V1_1) && tls.cipher_suites.is_empty() {
        let problem =
            Problem::new("is below TLS 1.2, whose cipher suites are not offered unless they are named");
        let problem = problem.found(min.name()).remedy("add `cipherSuites`, or use TLSV1_2");
        context.warning(Rule::Invalid, &at.field("minProtocolVersion"), problem);
    }
}
