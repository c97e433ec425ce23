//! Secrets whose type promises a certificate and its key, whether anything names them or not.

use resources::{Finding, Object, Path, Problem, ResourceSet, Rule, Secret, Severity};

use super::{
    Credentials,
    load::value,
    pem::{self, Part},
};

/// The type by which Kubernetes knows such Secrets.
const TLS: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What is wrong with the pairs in Secrets of type `kubernetes.io/tls`.
pub(crate) fn broken(resources: &ResourceSet, credentials: &Credentials<'_>) -> Vec<Finding> {
    let of_type = resources.secrets().iter().filter(|secret| secret.spec.secret_type.as_deref() == Some(TLS));
    let finding = |secret: &std::sync::Arc<Object<Secret>>| {
        let (key, problem) = check(&secret.spec, credentials).err()?;
        let data = Path::ROOT.field("data");
        Some(secret.meta.finding(Severity::Error, Rule::Invalid, &data.key(key), problem))
    };
    of_type.filter_map(finding).collect()
}

fn check(secret: &Secret, credentials: &Credentials<'_>) -> Result<(), (&'static str, Problem)> {
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
    })
}
