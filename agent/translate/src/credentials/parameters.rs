//! Versions and algorithms of a server, as far as they are spoken here.

use resources::{MeshTls, Problem, ServerTls, TlsVersion as Written};
use snapshot::{CipherSuite, TlsParameters, TlsVersion};

use super::Unusable;

/// The parameters of a server; what it does not say is as the mesh has it.
pub(super) fn of_server(tls: &ServerTls, defaults: &MeshTls) -> Result<TlsParameters, Unusable> {
    let or_default = |own: &[String], default: &[String]| {
        if own.is_empty() { default.to_vec() } else { own.to_vec() }
    };
    parameters(&ServerTls {
        min_protocol_version: written_min_version(tls, defaults),
        max_protocol_version: tls.max_protocol_version,
        cipher_suites: or_default(&tls.cipher_suites, &defaults.cipher_suites),
        ecdh_curves: or_default(&tls.ecdh_curves, &defaults.ecdh_curves),
        ..ServerTls::default()
    })
}

/// The lowest version that a server speaks.
pub(super) fn min_version(tls: &ServerTls, defaults: &MeshTls) -> TlsVersion {
    spoken_min_version(written_min_version(tls, defaults))
}

fn written_min_version(tls: &ServerTls, defaults: &MeshTls) -> Written {
    match tls.min_protocol_version {
        Written::Auto => defaults.min_protocol_version,
        written => written,
    }
}

/// The parameters that `field` of the mesh configuration asks for.
pub(super) fn of_mesh(tls: &MeshTls, field: &str) -> Result<TlsParameters, Unusable> {
    of_server(&ServerTls::default(), tls).map_err(|mut wrong| {
        let message =
            format!("`{field}.{}` of the mesh configuration {}", wrong.field, wrong.problem.message);
        wrong.problem.message = message;
        Unusable { field: "mode", ..wrong }.refusing()
    })
}

/// Names that are not spoken here are left out; when they leave nothing there is no falling back to others.
fn parameters(tls: &ServerTls) -> Result<TlsParameters, Unusable> {
    let (min_version, max_version) = versions(tls)?;
    let suites: Vec<CipherSuite> = distinct(&tls.cipher_suites);
    let only_1_3 = min_version == TlsVersion::V1_3;
    if suites.is_empty() && !tls.cipher_suites.is_empty() && !only_1_3 {
        let known = CipherSuite::NAMES.map(|(name, _)| name);
        let problem = Problem::new("leaves no cipher suite that is spoken here");
        let problem = problem.found(tls.cipher_suites.join(", ")).expected(known.join(", "));
        return Err(Unusable::invalid("cipherSuites", problem));
    }
    let key_exchanges = distinct(&tls.ecdh_curves);
    if key_exchanges.is_empty() && !tls.ecdh_curves.is_empty() {
        let known = snapshot::KeyExchange::NAMES.map(|(name, _)| name);
        let problem = Problem::new("leaves no curve that is spoken here");
        let problem = problem.found(tls.ecdh_curves.join(", ")).expected(known.join(", "));
        return Err(Unusable::invalid("ecdhCurves", problem));
    }
    Ok(TlsParameters { min_version, max_version, cipher_suites: suites, key_exchanges })
}

/// Clients that know nothing above TLS 1.1 find nobody here: the lowest version is TLS 1.2 whatever is written.
fn spoken_min_version(written: Written) -> TlsVersion {
    match written {
        Written::V1_3 => TlsVersion::V1_3,
        Written::Auto | Written::V1_0 | Written::V1_1 | Written::V1_2 => TlsVersion::V1_2,
    }
}

fn versions(tls: &ServerTls) -> Result<(TlsVersion, Option<TlsVersion>), Unusable> {
    let min = spoken_min_version(tls.min_protocol_version);
    let max = match tls.max_protocol_version {
        Written::Auto => None,
        Written::V1_3 => Some(TlsVersion::V1_3),
        Written::V1_2 => Some(TlsVersion::V1_2),
        old @ (Written::V1_0 | Written::V1_1) => {
            let problem = Problem::new("is below TLS 1.2, the lowest version that is spoken here");
            let problem = problem.found(old.name()).expected("TLSV1_2 or TLSV1_3");
            return Err(Unusable::invalid("maxProtocolVersion", problem));
        }
    };
    Ok((min, max))
}

/// The names that are known, each once.
fn distinct<T: std::str::FromStr + PartialEq>(names: &[String]) -> Vec<T> {
    let mut known: Vec<T> = Vec::new();
    for item in names.iter().filter_map(|name| name.parse().ok()) {
        if !known.contains(&item) {
            known.push(item);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(suites: &[&str], min: Written, max: Written) -> Result<TlsParameters, String> {
        let tls = ServerTls {
            cipher_suites: suites.iter().map(ToString::to_string).collect(),
            min_protocol_version: min,
            max_protocol_version: max,
            ..ServerTls::default()
        };
        parameters(&tls).map_err(|unusable| format!("{}: {}", unusable.field, unusable.problem))
    }

    #[test]
    fn what_is_spoken_here_is_kept_in_order() {
        let suites = ["ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256"];
        let known = of(&suites, Written::Auto, Written::V1_2).unwrap();
        assert_eq!(known.cipher_suites, [CipherSuite::EcdheRsaAes256Gcm, CipherSuite::EcdheRsaAes128Gcm]);
        assert!(known.allows(TlsVersion::V1_2) && !known.allows(TlsVersion::V1_3));
        assert_eq!(of(&[], Written::V1_0, Written::Auto).unwrap(), TlsParameters::default());
        assert!(!of(&[], Written::V1_3, Written::Auto).unwrap().allows(TlsVersion::V1_2));
    }

    #[test]
    fn servers_go_before_the_mesh() {
        let suite = |name: &str| vec![name.to_owned()];
        let defaults = MeshTls {
            min_protocol_version: Written::V1_3,
            cipher_suites: suite("ECDHE-RSA-AES256-GCM-SHA384"),
            ecdh_curves: suite("P-384"),
        };
        let silent = of_server(&ServerTls::default(), &defaults).unwrap();
        assert_eq!(
            (silent.min_version, &*silent.cipher_suites),
            (TlsVersion::V1_3, &[CipherSuite::EcdheRsaAes256Gcm][..])
        );
        let own = ServerTls {
            min_protocol_version: Written::V1_2,
            cipher_suites: suite("ECDHE-RSA-AES128-GCM-SHA256"),
            ..ServerTls::default()
        };
        let own = of_server(&own, &defaults).unwrap();
        assert_eq!(
            (own.min_version, &*own.cipher_suites),
            (TlsVersion::V1_2, &[CipherSuite::EcdheRsaAes128Gcm][..])
        );
        assert_eq!(own.key_exchanges, [snapshot::KeyExchange::P384]);
        let wrong =
            of_mesh(&MeshTls { ecdh_curves: suite("P-1"), ..MeshTls::default() }, "meshMTLS").unwrap_err();
        assert!(
            wrong
                .problem
                .message
                .starts_with("`meshMTLS.ecdhCurves` of the mesh configuration leaves no curve"),
            "{wrong:?}"
        );
    }

    #[test]
    fn what_leaves_nothing_is_refused() {
        let refused = of(&["AES128-SHA", "DES-CBC3-SHA"], Written::Auto, Written::Auto).unwrap_err();
        assert!(
            refused.starts_with(
                "cipherSuites: leaves no cipher suite that is spoken here (found `AES128-SHA, DES-CBC3-SHA`"
            ),
            "{refused}"
        );
        // TLS 1.3 has suites of its own.
        assert!(of(&["AES128-SHA"], Written::V1_3, Written::Auto).is_ok());
        let refused = of(&[], Written::Auto, Written::V1_1).unwrap_err();
        assert!(refused.starts_with("maxProtocolVersion: is below TLS 1.2"), "{refused}");
        let tls = ServerTls { ecdh_curves: vec!["P-521".to_owned()], ..ServerTls::default() };
        assert_eq!(parameters(&tls).unwrap_err().field, "ecdhCurves");
    }
}
