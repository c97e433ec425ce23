//! What Secrets and files hold: certificates with their keys, and authorities.

use std::collections::HashMap;

use resources::{
    CertificateFiles, Object, Problem, ResourceSet, Rule, Secret, SecretBytes, did_you_mean, nearest,
};
use snapshot::{Certificate, TrustBundle};

use super::{
    Unusable,
    pem::{self, Broken, Part},
    source::{AuthoritySource, CredentialSource},
};
use crate::proxy::{Proxy, WorkloadIdentity};

/// The Secrets and files that a proxy may look at.
pub(super) struct Stored<'c> {
    secrets: HashMap<&'c str, Vec<&'c Object<Secret>>>,
    /// `None` when nobody can look.
    files: Option<&'c CertificateFiles>,
    namespace: &'c str,
    /// Whether a Service of the proxy tells that it is in that namespace, rather than a guess.
    namespace_is_sure: bool,
}

impl<'c> Stored<'c> {
    pub(super) fn new(
        resources: &'c ResourceSet,
        files: Option<&'c CertificateFiles>,
        proxy: &'c Proxy,
    ) -> Self {
        let mut secrets: HashMap<&str, Vec<&Object<Secret>>> = HashMap::new();
        for secret in resources.secrets() {
            secrets.entry(secret.meta.name()).or_default().push(secret);
        }
        Self {
            secrets,
            files,
            namespace: &proxy.namespace,
            namespace_is_sure: resources.services().iter().any(|service| {
                service.meta.namespace() == proxy.namespace && service.spec.selects(&proxy.labels)
            }),
        }
    }

    /// Whether files that are not there are missed.
    pub(super) fn looks_at_files(&self) -> bool {
        self.files.is_some()
    }

    /// The certificate of a source.
    ///
    /// # Errors
    /// It is not there, or is not what it should be.
    pub(super) fn certificate(&self, source: CredentialSource<'_>) -> Result<Certificate, Unusable> {
        match source {
            CredentialSource::Secret(name, field) => self.secret_certificate(name, field),
            CredentialSource::Files { certificate, key } => self.file_certificate(certificate, key),
            CredentialSource::Workload(identity) => self.own_certificate(identity),
        }
    }

    /// The authority of a source.
    ///
    /// # Errors
    /// It is not there, or is not what it should be.
    pub(super) fn bundle(&self, source: AuthoritySource<'_>) -> Result<TrustBundle, Unusable> {
        match source {
            AuthoritySource::Files { certificates, revocations } => {
                self.file_bundle(certificates, revocations)
            }
            AuthoritySource::Workload(WorkloadIdentity { roots, .. }) => self
                .file_bundle(roots, None)
                .map_err(|unusable| Unusable { field: source.field(), ..unusable }),
            AuthoritySource::Secret(..) | AuthoritySource::BesideSecret(..) => self.secret_bundle(source),
        }
    }

    /// Says of a certificate that was found why it cannot be used.
    pub(super) fn unusable_certificate(&self, source: CredentialSource<'_>, reason: &str) -> Unusable {
        match source {
            CredentialSource::Secret(name, field) => self.secret_cannot_be_used(name, field, reason),
            _ => cannot_be_used(source.field(), reason, source.shown(), "replace the files"),
        }
    }

    /// Says of an authority that was found why it cannot be used.
    pub(super) fn unusable_bundle(&self, source: AuthoritySource<'_>, reason: &str) -> Unusable {
        match source {
            AuthoritySource::Secret(name, field) => self.secret_cannot_be_used(name, field, reason),
            AuthoritySource::BesideSecret(..) => cannot_be_used(
                source.field(),
                reason,
                source.shown(),
                "correct the Secret that holds the CA certificates",
            ),
            _ => cannot_be_used(source.field(), reason, source.shown(), "replace the files"),
        }
    }

    fn secret(&self, name: &str, field: &'static str) -> Result<&'c Object<Secret>, Unusable> {
        let namespace = self.namespace;
        let named = self.secrets.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some(secret) = named.iter().find(|secret| secret.meta.namespace() == namespace) {
            return Ok(secret);
        }
        let problem =
            Problem::new(format!("there is no such Secret in namespace `{namespace}`")).written(name);
        let problem = match named.first() {
            Some(other) => problem.remedy(format!(
                "the one in namespace `{}` is not looked at: it belongs beside the gateway's pod",
                other.meta.namespace()
            )),
            None => problem.remedy(self.secret_meant(name)),
        };
        Err(Unusable { rule: Rule::UnknownReference, field, problem })
    }

    /// What to do about a Secret that is not there.
    fn secret_meant(&self, name: &str) -> String {
        let create = || "create it beside the gateway's pod, or correct the name".to_owned();
        did_you_mean(name, self.beside()).unwrap_or_else(create)
    }

    /// The names of the Secrets in the namespace of the proxy, sorted.
    fn beside(&self) -> Vec<&'c str> {
        let is_beside =
            |named: &[&Object<Secret>]| named.iter().any(|secret| secret.meta.namespace() == self.namespace);
        let mut beside: Vec<&str> =
            self.secrets.iter().filter(|(_, named)| is_beside(named)).map(|(name, _)| *name).collect();
        beside.sort_unstable();
        beside
    }

    /// A Secret that is not there, where one that is missing is taken to be where it is needed: it is written for
    /// another namespace, or others of its namespace are there.
    pub(super) fn misplaced(&self, source: CredentialSource<'_>) -> Option<Unusable> {
        let CredentialSource::Secret(name, field) = source else { return None };
        let wrong = self.secret(name, field).err().filter(|_| !self.looks_at_files())?;
        if self.secrets.contains_key(name) {
            return Some(wrong).filter(|_| self.namespace_is_sure);
        }
        let beside = self.beside();
        // Where the namespace is a guess, only a name that is nearly the same is worth a warning.
        let is_missed = match self.namespace_is_sure {
            true => !beside.is_empty(),
            false => nearest(name, beside).is_some(),
        };
        let message = format!("is not among the Secrets of namespace `{}` in these files", self.namespace);
        is_missed.then(|| Unusable { problem: wrong.problem.restated(message), ..wrong })
    }

    /// The same for CA certificates: told for the Secret that is looked at first.
    pub(super) fn misplaced_authority(&self, source: AuthoritySource<'_>) -> Option<Unusable> {
        let (names, field) = (source.secrets(), source.field());
        let is_found = names.iter().any(|name| self.secret(name, field).is_ok());
        self.misplaced(CredentialSource::Secret(names.first().filter(|_| !is_found)?, field))
    }

    fn secret_certificate(&self, name: &str, field: &'static str) -> Result<Certificate, Unusable> {
        let secret = self.secret(name, field)?;
        let missing = || {
            self.keys_missing(
                secret,
                field,
                "certificate and key",
                "`tls.crt` and `tls.key`, or `cert` and `key`",
            )
        };
        let (chain, key) = pair(&secret.spec).ok_or_else(missing)?;
        let certificate = pem::certificate(chain, key).map_err(|broken| self.broken(name, field, broken))?;
        Ok(match value(&secret.spec, "tls.ocsp-staple") {
            Some(staple) => certificate.with_staple(staple),
            None => certificate,
        })
    }

    fn secret_bundle(&self, source: AuthoritySource<'_>) -> Result<TrustBundle, Unusable> {
        let (names, field) = (source.secrets(), source.field());
        let found = names.iter().find_map(|name| self.secret(name, field).ok());
        // The name that is written is the last.
        let secret = match (found, names.last()) {
            (Some(secret), _) => secret,
            (None, written) => {
                self.secret(written.map_or("", String::as_str), field).map_err(|wrong| match &*names {
                    [_, _, ..] => Unusable { problem: wrong.problem.expected(names.join(" or ")), ..wrong },
                    _ => wrong,
                })?
            }
        };
        let generic = value(&secret.spec, "cacert").map(|ca| (ca, value(&secret.spec, "crl")));
        let either_list = || value(&secret.spec, "ca.crl").or_else(|| value(&secret.spec, "crl"));
        let typed = || value(&secret.spec, "ca.crt").map(|ca| (ca, either_list()));
        let missing = || self.keys_missing(secret, field, "CA certificate", "`cacert` or `ca.crt`");
        let (certificates, revocations) = generic.or_else(typed).ok_or_else(missing)?;
        let name = secret.meta.name();
        pem::trust_bundle(certificates, revocations).map_err(|broken| self.broken(name, field, broken))
    }

    fn keys_missing(
        &self,
        secret: &Object<Secret>,
        field: &'static str,
        what: &str,
        expected: &str,
    ) -> Unusable {
        let keys: Vec<&str> = secret.spec.data.keys().map(String::as_str).collect();
        let keys = if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") };
        let name = secret.meta.name();
        let problem = Problem::new(format!("Secret {}/{name} holds no {what}", self.namespace));
        Unusable::invalid(field, problem.found(keys).expected(expected))
    }

    fn broken(&self, secret: &str, field: &'static str, (part, problem): Broken) -> Unusable {
        let (part, namespace) = (part.name(), self.namespace);
        let message = format!("the {part} in Secret {namespace}/{secret} {}", problem.message);
        Unusable::invalid(field, problem.restated(message))
    }

    /// The field that names the Secret is right: what is in it is not.
    fn secret_cannot_be_used(&self, secret: &str, field: &'static str, reason: &str) -> Unusable {
        let message = format!("Secret {}/{secret} cannot be used: {reason}", self.namespace);
        Unusable::invalid(field, Problem::new(message).remedy("correct the Secret"))
    }

    fn file(&self, path: &str, field: &'static str) -> Result<&'c [u8], Unusable> {
        let read = |files: &'c CertificateFiles| files.get(path);
        let known = self.files.map_or(Err("nobody has looked"), read);
        known.map(SecretBytes::expose).map_err(|reason| {
            let problem = Problem::new(format!("cannot be read: {reason}")).found(path);
            let problem = problem.remedy("correct the path, or mount the file: it is read once it is there");
            Unusable { rule: Rule::Unreadable, field, problem }
        })
    }

    fn file_certificate(&self, certificate: &str, key: &str) -> Result<Certificate, Unusable> {
        let chain_pem = self.file(certificate, SERVER_CERTIFICATE)?;
        let key_pem = self.file(key, PRIVATE_KEY)?;
        pem::certificate(chain_pem, key_pem).map_err(|(part, problem)| match part {
            Part::Key => Unusable::invalid(PRIVATE_KEY, problem.found(key)),
            _ => Unusable::invalid(SERVER_CERTIFICATE, problem.found(certificate)),
        })
    }

    fn own_certificate(&self, identity: &WorkloadIdentity) -> Result<Certificate, Unusable> {
        let certificate = self.file_certificate(&identity.certificate, &identity.key);
        let field = CredentialSource::Workload(identity).field();
        let certificate = certificate.map_err(|unusable| Unusable { field, ..unusable })?;
        Ok(certificate)
    }

    fn file_bundle(&self, certificates: &str, revocations: Option<&str>) -> Result<TrustBundle, Unusable> {
        let pem = self.file(certificates, CA_CERTIFICATES)?;
        let list = revocations.map(|path| self.file(path, CA_CRL)).transpose()?;
        pem::trust_bundle(pem, list).map_err(|(part, problem)| match part {
            Part::Revocations => Unusable::invalid(CA_CRL, problem.found(revocations.unwrap_or_default())),
            _ => Unusable::invalid(CA_CERTIFICATES, problem.found(certificates)),
        })
    }
}

const SERVER_CERTIFICATE: &str = "serverCertificate";
const PRIVATE_KEY: &str = "privateKey";
const CA_CERTIFICATES: &str = "caCertificates";
const CA_CRL: &str = "caCrl";

fn cannot_be_used(field: &'static str, reason: &str, found: String, remedy: &'static str) -> Unusable {
    let problem = Problem::new(format!("cannot be used: {reason}")).found(found);
    Unusable::invalid(field, problem.remedy(remedy))
}

/// Certificate chain and key of a Secret: `cert` and `key` before `tls.crt` and `tls.key`, as Istio looks for them.
fn pair(secret: &Secret) -> Option<(&[u8], &[u8])> {
    let both = |certificate, key| value(secret, certificate).zip(value(secret, key));
    both("cert", "key").or_else(|| both("tls.crt", "tls.key"))
}

pub(super) fn value<'s>(secret: &'s Secret, key: &str) -> Option<&'s [u8]> {
    secret.data.get(key).map(SecretBytes::expose).filter(|value| !value.is_empty())
}
