//! Secrets whose type promises a certificate and its key, whether anything names them or not.

use resources::{Finding, Object, Path, Problem, ResourceSet, Rule, Secret, Severity};
use snapshot::Certificate;

use super::{
    Credentials, doubts, facts,
    pem::{self, Part},
    stored::value,
};

/// The type by which Kubernetes knows such Secrets.
const TLS: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What is wrong with the pairs in Secrets of type `kubernetes.io/tls`, and what peers will hold against their dates.
pub(crate) fn doubtful(resources: &ResourceSet, credentials: &Credentials<'_>) -> Vec<Finding> {
    let of_type = resources.secrets().iter().filter(|secret| secret.spec.secret_type.as_deref() == Some(TLS));
    let finding = |secret: &std::sync::Arc<Object<Secret>>| {
        let data = Path::ROOT.field("data");
        let of_key =
            |severity, rule, key, problem| secret.meta.finding(severity, rule, &data.key(key), problem);
        match check(&secret.spec, credentials) {
            Ok(certificate) => {
                let doubt = doubts::dates(
                    &facts(&certificate)?,
                    (CERTIFICATE, secret.meta.name()),
                    credentials.now?,
                )?;
                Some(of_key(Severity::Warning, doubt.rule, doubt.field, doubt.problem))
            }
            Err((key, problem)) => Some(of_key(Severity::Error, Rule::Invalid, key, problem)),
        }
    };
    of_type.filter_map(finding).collect()
}

fn check(secret: &Secret, credentials: &Credentials<'_>) -> Result<Certificate, (&'static str, Problem)> {
    let of = |key: &'static str| {
        let problem = || Problem::new(format!("is missing in a Secret of type `{TLS}`"));
        value(secret, key).ok_or_else(|| (key, problem().expected("PEM text")))
    };
    let certificate = pem::certificate(of(CERTIFICATE)?, of(KEY)?).map_err(|(part, problem)| match part {
        Part::Key => (KEY, problem),
        _ => (CERTIFICATE, problem),
    })?;
    (credentials.check_certificate)(&certificate).map_err(|reason| {
        let problem = Problem::new(format!("cannot serve with its key: {reason}"));
        (CERTIFICATE, problem.remedy("store a certificate and the key it was made for"))
    })?;
    Ok(certificate)
}
