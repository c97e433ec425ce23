//! What is needed to terminate TLS and to speak it to endpoints, as plain data.

mod certificate;
mod parameters;
mod secrets;
mod upstream;
mod validity;
mod x509;

pub(crate) use certificate::REDACTED;
pub use certificate::{Certificate, Credential, CrlBundle, TrustBundle};
pub use parameters::{CipherSuite, KeyExchange, TlsParameters, TlsVersion};
pub use secrets::{SecretEntry, SecretKind};
pub use upstream::{ServerCheck, ServerNameSource, Speaks, UpstreamTls, UpstreamTlsUse};
pub use validity::{Validity, Within};
pub use x509::{AlternativeName, CertificateFacts, X509Error};

/// Position of a TLS context in [`crate::Snapshot::tls_contexts`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TlsContextId(pub u32);

/// How TLS is terminated, shared by every filter chain that names it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsContext {
    /// Distinct within a snapshot: the names of the credentials, and a number where several contexts have the same.
    pub name: String,
    /// What the server proves its name with: one, or one per kind of key. When none has a usable certificate every
    /// handshake is refused.
    pub credentials: Vec<Credential>,
    /// Why it cannot serve, in words for the operator; `None` when it can.
    pub missing: Option<String>,
    /// What is asked of clients.
    pub clients: ClientCertificates,
    /// Protocols offered to the client, the preferred first (RFC 7301).
    pub alpn: Vec<String>,
    /// Versions and algorithms.
    pub parameters: TlsParameters,
}

impl TlsContext {
    /// Name of the workload's own credential, Istio's.
    pub const WORKLOAD: &str = "default";

    /// Whether it proves who the workload is, to peers of the mesh.
    pub fn is_of_workload(&self) -> bool {
        self.name.split('#').next() == Some(Self::WORKLOAD)
    }
}

/// What is asked of clients by way of certificates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    NotAsked,
    /// A certificate may be shown, and is verified when it is.
    Optional(PeerRules),
    /// A certificate must be shown.
    Required(PeerRules),
    /// Any certificate is accepted: it proves nothing but that the client has its key.
    Unverified {
        /// Whether one must be shown.
        required: bool,
    },
}

impl ClientCertificates {
    /// Whether a client without a certificate is refused.
    pub fn must_show(&self) -> bool {
        matches!(self, Self::Required(_) | Self::Unverified { required: true })
    }

    /// The authority that certificates are checked against.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Optional(rules) | Self::Required(rules) => Some(&rules.authority),
            Self::NotAsked | Self::Unverified { .. } => None,
        }
    }
}

/// Which certificates of a peer are accepted: those of the authority that also satisfy every list that is not empty,
/// where the two lists of digests count as one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerRules {
    /// Who must have issued it.
    pub authority: Authority,
    /// Alternative names of which it must carry one.
    pub names: Vec<NameMatch>,
    /// SHA-256 digests of its public key (SubjectPublicKeyInfo).
    pub public_keys: Vec<[u8; 32]>,
    /// SHA-256 digests of it as a whole.
    pub certificates: Vec<[u8; 32]>,
}

/// CA certificates by the name of where they come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Authority {
    /// Istio's name: `kubernetes://<secret>-cacert`, `file-root:<path>`, `ROOTCA`.
    pub name: String,
    /// `None` when there is nothing usable, so that no certificate is accepted.
    pub bundle: Option<TrustBundle>,
}

/// A condition on an alternative name of a certificate: DNS name, URI, address or e-mail address as text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NameMatch {
    /// This name.
    Exact(String),
    /// A name that begins so.
    Prefix(String),
}

impl NameMatch {
    /// Whether a name satisfies the condition. DNS names are compared without regard to case.
    pub fn accepts(&self, name: &AlternativeName) -> bool {
        match self {
            Self::Exact(wanted) if matches!(name, AlternativeName::Dns(_)) => {
                wanted.eq_ignore_ascii_case(name.as_str())
            }
            Self::Exact(wanted) => wanted == name.as_str(),
            Self::Prefix(prefix) => name.as_str().starts_with(prefix),
        }
    }
}
