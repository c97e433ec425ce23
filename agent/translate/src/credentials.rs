//! Certificates by the names that Gateways have for them.

use std::collections::HashMap;

use resources::{CertificateFiles, Problem, ResourceSet, Rule, Secret, ServerTls};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};
use snapshot::{Certificate, TlsContext, TlsContextId};

use crate::{draft::DraftBuilder, proxy::Proxy};

/// What translation needs for certificates beside the resources. It stays pure: the files have been read before, and
/// what was good the last time is handed in.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'c> {
    /// Contents of the files that Gateways name. `None` says that nobody can look: files and Secrets that are not
    /// among the resources are taken to be where they are needed.
    pub files: Option<&'c CertificateFiles>,
    /// TLS contexts of the snapshot before: when a credential is missing or broken, the certificate it had stays.
    pub last_good: &'c [TlsContext],
    /// Tells whether a certificate and its key can serve, or why not.
    pub check: fn(&Certificate) -> Result<(), String>,
}

impl Credentials<'_> {
    /// For a look at resources alone.
    pub const UNSEEN: Self = Self { files: None, last_good: &[], check: |_| Ok(()) };
}

/// The certificates of a server, as its Gateway names them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CredentialSource<'s> {
    /// A Secret in the namespace of the gateway's pod.
    Secret(&'s str),
    Files {
        certificate: &'s str,
        key: &'s str,
    },
}

/// Why a server has not got the certificate it should have.
#[derive(Clone, Debug)]
pub(crate) struct Unusable {
    pub(crate) rule: Rule,
    /// Field of the server's `tls`.
    pub(crate) field: &'static str,
    pub(crate) problem: Problem,
}

impl<'s> CredentialSource<'s> {
    /// The source that a server names, if it is one of those supported.
    pub(crate) fn of(tls: &'s ServerTls) -> Option<Self> {
        match (&tls.credential_name, &tls.server_certificate, &tls.private_key) {
            (Some(name), _, _) => Some(Self::Secret(name.strip_prefix(KUBERNETES).unwrap_or(name))),
            (None, Some(certificate), Some(key)) => Some(Self::Files { certificate, key }),
            _ => None,
        }
    }

    /// Istio's name for it.
    fn name(self) -> String {
        match self {
            Self::Secret(name) => format!("{KUBERNETES}{name}"),
            Self::Files { certificate, key } => format!("file-cert:{certificate}~{key}"),
        }
    }
}

const KUBERNETES: &str = "kubernetes://";

/// Makes TLS contexts, each once.
pub(crate) struct Contexts<'c> {
    resources: &'c ResourceSet,
    credentials: &'c Credentials<'c>,
    proxy: &'c Proxy,
    known: HashMap<String, (TlsContextId, Option<Unusable>)>,
}

impl<'c> Contexts<'c> {
    pub(crate) fn new(
        resources: &'c ResourceSet,
        credentials: &'c Credentials<'c>,
        proxy: &'c Proxy,
    ) -> Self {
        Self { resources, credentials, proxy, known: HashMap::new() }
    }

    /// The context for a source, and what is wrong with it. There is always one: without a certificate it refuses
    /// handshakes, so that the names of its server do not fall to another server.
    pub(crate) fn context(
        &mut self,
        source: CredentialSource<'_>,
        draft: &mut DraftBuilder,
    ) -> (TlsContextId, Option<Unusable>) {
        let name = source.name();
        if let Some(known) = self.known.get(&name) {
            return known.clone();
        }
        let last_good = self.credentials.last_good.iter().find(|context| context.name == name);
        let last_good = last_good.and_then(|context| context.certificate.as_ref());
        let (certificate, unusable) = match self.certificate(source, last_good) {
            Ok(certificate) => (Some(certificate), None),
            Err(unusable) if self.credentials.files.is_none() && unusable.is_absent() => (None, None),
            Err(unusable) => (last_good.cloned(), Some(unusable.costing(last_good.is_some()))),
        };
        let alpn = ALPN.map(str::to_owned).to_vec();
        let id = draft.add_tls_context(TlsContext { name: name.clone(), certificate, alpn });
        self.known.insert(name, (id, unusable.clone()));
        (id, unusable)
    }

    /// The context of servers that cannot be served: it refuses handshakes.
    pub(crate) fn refusing(&mut self, draft: &mut DraftBuilder) -> TlsContextId {
        let name = "unsupported".to_owned();
        let make = || {
            let alpn = Vec::new();
            (draft.add_tls_context(TlsContext { name: name.clone(), certificate: None, alpn }), None)
        };
        self.known.entry(name.clone()).or_insert_with(make).0
    }

    fn certificate(
        &self,
        source: CredentialSource<'_>,
        last_good: Option<&Certificate>,
    ) -> Result<Certificate, Unusable> {
        let certificate = match source {
            CredentialSource::Secret(name) => self.secret_certificate(name)?,
            CredentialSource::Files { certificate, key } => self.file_certificate(certificate, key)?,
        };
        // One that serves already has been checked.
        if last_good == Some(&certificate) {
            return Ok(certificate);
        }
        match (self.credentials.check)(&certificate) {
            Ok(()) => Ok(certificate),
            Err(reason) => Err(Unusable::invalid(
                source.field(),
                Problem::new(format!("cannot be used: {reason}")).found(source.shown()),
            )),
        }
    }

    fn secret_certificate(&self, name: &str) -> Result<Certificate, Unusable> {
        let namespace = &self.proxy.namespace;
        let mut named = self.resources.secrets().iter().filter(|secret| secret.meta.name() == name);
        let Some(secret) = named.clone().find(|secret| secret.meta.namespace() == namespace) else {
            let problem = Problem::new(format!("there is no such Secret in namespace `{namespace}`"));
            let problem = problem.found(name);
            let problem = match named.next() {
                Some(other) => problem.remedy(format!(
                    "the one in namespace `{}` is not looked at: it belongs beside the gateway's pod",
                    other.meta.namespace()
                )),
                None => problem,
            };
            return Err(Unusable { rule: Rule::UnknownReference, field: CREDENTIAL_NAME, problem });
        };
        let (chain, key) = pair(&secret.spec).ok_or_else(|| {
            let keys: Vec<&str> = secret.spec.data.keys().map(String::as_str).collect();
            let problem = Problem::new(format!("Secret {namespace}/{name} holds no certificate and key"));
            let problem =
                problem.found(keys.join(", ")).expected("`tls.crt` and `tls.key`, or `cert` and `key`");
            Unusable::invalid(CREDENTIAL_NAME, problem)
        })?;
        let of_secret = |(part, problem): (Part, Problem)| {
            let part = part.name();
            let message = format!("the {part} in Secret {namespace}/{name} {}", problem.message);
            Unusable::invalid(CREDENTIAL_NAME, Problem { message, ..problem })
        };
        parse(chain, key).map_err(of_secret)
    }

    fn file_certificate(&self, certificate: &str, key: &str) -> Result<Certificate, Unusable> {
        let read = |path: &str, field: &'static str| {
            let known = self.credentials.files.map_or(Err("nobody has looked"), |files| files.get(path));
            known.map(resources::SecretBytes::expose).map_err(|reason| {
                let problem = Problem::new(format!("cannot be read: {reason}")).found(path);
                let problem =
                    problem.remedy("correct the path, or mount the file: it is read once it is there");
                Unusable { rule: Rule::Unreadable, field, problem }
            })
        };
        let (chain_pem, key_pem) = (read(certificate, SERVER_CERTIFICATE)?, read(key, PRIVATE_KEY)?);
        parse(chain_pem, key_pem).map_err(|(part, problem)| match part {
            Part::Chain => Unusable::invalid(SERVER_CERTIFICATE, problem.found(certificate)),
            Part::Key => Unusable::invalid(PRIVATE_KEY, problem.found(key)),
        })
    }
}

/// Protocols that HTTP servers offer.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

const CREDENTIAL_NAME: &str = "credentialName";
const SERVER_CERTIFICATE: &str = "serverCertificate";
const PRIVATE_KEY: &str = "privateKey";

impl CredentialSource<'_> {
    fn field(self) -> &'static str {
        match self {
            Self::Secret(_) => CREDENTIAL_NAME,
            Self::Files { .. } => PRIVATE_KEY,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Secret(name) => name.to_owned(),
            Self::Files { certificate, key } => format!("{certificate} with {key}"),
        }
    }
}

impl Unusable {
    fn invalid(field: &'static str, problem: Problem) -> Self {
        Self { rule: Rule::Invalid, field, problem }
    }

    /// Whether the credential is not there, other than there and wrong.
    fn is_absent(&self) -> bool {
        matches!(self.rule, Rule::UnknownReference | Rule::Unreadable)
    }

    /// Says what becomes of the server.
    fn costing(mut self, has_last_good: bool) -> Self {
        let message = &self.problem.message;
        self.problem.message = if has_last_good {
            format!("{message}: the last good certificate stays in force")
        } else {
            format!("{message}: TLS handshakes for the hosts of this server are refused")
        };
        self
    }
}

/// Certificate chain and key of a Secret: `cert` and `key` before `tls.crt` and `tls.key`, as Istio looks for them.
fn pair(secret: &Secret) -> Option<(&[u8], &[u8])> {
    let value = |key| secret.data.get(key).map(resources::SecretBytes::expose).filter(|v| !v.is_empty());
    let both = |certificate, key| value(certificate).zip(value(key));
    both("cert", "key").or_else(|| both("tls.crt", "tls.key"))
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Chain,
    Key,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Chain => "certificate",
            Self::Key => "private key",
        }
    }
}

fn parse(chain: &[u8], key: &[u8]) -> Result<Certificate, (Part, Problem)> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => chain,
        Ok(_) | Err(PemError::NoItemsFound) => return Err((Part::Chain, no_pem("CERTIFICATE"))),
        Err(error) => return Err((Part::Chain, broken_pem(&error))),
    };
    if key.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        let problem = Problem::new("is encrypted, and nobody is there to give the password");
        return Err((
            Part::Key,
            problem.remedy("store it decrypted: `openssl pkey -in key.pem -out plain.pem`"),
        ));
    }
    match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => Ok(Certificate::new(chain, key)),
        Err(PemError::NoItemsFound) => Err((Part::Key, no_pem("PRIVATE KEY"))),
        Err(error) => Err((Part::Key, broken_pem(&error))),
    }
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn no_pem(label: &str) -> Problem {
    Problem::new(format!("holds no {}", label.to_lowercase()))
        .expected(format!("PEM text with `-----BEGIN {label}-----`"))
}

/// The parser's own words may quote a line of the key.
fn broken_pem(error: &PemError) -> Problem {
    let what = match error {
        PemError::MissingSectionEnd { .. } => "ends in the middle of a PEM section",
        PemError::Base64Decode(_) => "is not base64 between its PEM lines",
        _ => "is not PEM",
    };
    Problem::new(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &[u8] = b"junk\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n\
                           -----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----\n";

    fn key(label: &str, text: &str) -> Vec<u8> {
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
    }

    fn refused(chain: &[u8], key: &[u8]) -> String {
        let (part, problem) = parse(chain, key).unwrap_err();
        format!("{} {problem}", part.name())
    }

    #[test]
    fn every_form_of_key_and_a_chain_with_text_around_it_are_read() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let certificate = parse(CHAIN, &key(label, "BwgJ")).unwrap();
            assert_eq!(certificate.chain().len(), 2);
            assert_eq!(certificate.expose_key().secret_der(), [7, 8, 9]);
        }
        // A file with both is as good for either.
        let both = [CHAIN, &key("PRIVATE KEY", "BwgJ")].concat();
        assert!(parse(&both, &both).is_ok());
    }

    #[test]
    fn what_is_broken_is_named_and_not_shown() {
        let good = key("PRIVATE KEY", "BwgJ");
        assert!(refused(b"", &good).starts_with("certificate holds no certificate (expected PEM"));
        assert!(refused(&good, &good).starts_with("certificate holds no certificate"));
        assert!(refused(CHAIN, CHAIN).starts_with("private key holds no private key"));
        assert_eq!(
            refused(CHAIN, &key("PRIVATE KEY", "top!secret")),
            "private key is not base64 between its PEM lines"
        );
        assert_eq!(refused(CHAIN, &good[..40]), "private key ends in the middle of a PEM section");
        for encrypted in
            [key("ENCRYPTED PRIVATE KEY", "BwgJ"), key("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nBwgJ")]
        {
            assert!(refused(CHAIN, &encrypted).starts_with("private key is encrypted"));
        }
    }
}
