//! Where certificates and authorities come from, as servers and rules name them.

use resources::{ClientTls, ServerTls};
use snapshot::TlsContext;

use crate::proxy::WorkloadIdentity;

/// A certificate with its key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CredentialSource<'s> {
    /// A Secret in the namespace of the proxy, and the field that names it.
    Secret(&'s str, &'static str),
    Files {
        certificate: &'s str,
        key: &'s str,
    },
    /// The workload's own.
    Workload(&'s WorkloadIdentity),
}

/// CA certificates and what they have revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AuthoritySource<'s> {
    /// The Secret `<name>-cacert`, else the one of this name, and the field that names it.
    BesideSecret(&'s str, &'static str),
    /// This Secret and no other.
    Secret(&'s str, &'static str),
    Files {
        certificates: &'s str,
        revocations: Option<&'s str>,
    },
    /// The mesh's.
    Workload(&'s WorkloadIdentity),
}

pub(super) const CREDENTIAL_NAME: &str = "credentialName";
const CREDENTIAL_NAMES: &str = "credentialNames";
const CA_CREDENTIAL_NAME: &str = "caCertCredentialName";
const KUBERNETES: &str = "kubernetes://";
const CA_SUFFIX: &str = "-cacert";
/// Istio's word for what the system trusts.
const SYSTEM: &str = "system";

fn without_prefix(name: &str) -> &str {
    name.strip_prefix(KUBERNETES).unwrap_or(name)
}

impl<'s> CredentialSource<'s> {
    /// The certificates of a server, one of the ways to name them.
    pub(crate) fn of_server(tls: &'s ServerTls) -> Vec<Self> {
        let files = |certificate: &'s Option<String>, key: &'s Option<String>| {
            Some(Self::Files { certificate: certificate.as_deref()?, key: key.as_deref()? })
        };
        if let Some(name) = &tls.credential_name {
            return vec![Self::Secret(without_prefix(name), CREDENTIAL_NAME)];
        }
        let named =
            tls.credential_names.iter().map(|name| Self::Secret(without_prefix(name), CREDENTIAL_NAMES));
        let listed =
            tls.tls_certificates.iter().filter_map(|one| files(&one.server_certificate, &one.private_key));
        named.chain(files(&tls.server_certificate, &tls.private_key)).chain(listed).take(MOST).collect()
    }

    /// What a rule shows to endpoints.
    pub(crate) fn of_client(tls: &'s ClientTls) -> Option<Self> {
        match (&tls.credential_name, &tls.client_certificate, &tls.private_key) {
            (Some(name), _, _) => Some(Self::Secret(without_prefix(name), CREDENTIAL_NAME)),
            (None, Some(certificate), Some(key)) => Some(Self::Files { certificate, key }),
            _ => None,
        }
    }

    /// The Secret that a [name](Self::name) stands for, if it stands for one.
    pub(super) fn of_name(name: &'s str) -> Option<Self> {
        Some(Self::Secret(name.strip_prefix(KUBERNETES)?, CREDENTIAL_NAME))
    }

    /// Istio's name for it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Secret(name, _) => format!("{KUBERNETES}{name}"),
            Self::Files { certificate, key } => format!("file-cert:{certificate}~{key}"),
            Self::Workload(_) => TlsContext::WORKLOAD.to_owned(),
        }
    }

    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Secret(_, field) => field,
            Self::Files { .. } => "privateKey",
            Self::Workload(_) => "mode",
        }
    }

    /// The field that names the certificate, where another names its key.
    pub(super) fn field_of_certificate(self) -> &'static str {
        match self {
            Self::Files { .. } => "serverCertificate",
            _ => self.field(),
        }
    }

    /// The same for what is shown to endpoints.
    pub(super) fn field_of_client(self) -> &'static str {
        match self {
            Self::Files { .. } => "clientCertificate",
            _ => self.field(),
        }
    }

    pub(super) fn shown(self) -> String {
        match self {
            Self::Secret(name, _) => name.to_owned(),
            Self::Files { certificate, key } => format!("{certificate} with {key}"),
            Self::Workload(WorkloadIdentity { certificate, key, .. }) => format!("{certificate} with {key}"),
        }
    }
}

/// Istio takes one per kind of key.
const MOST: usize = 2;

impl<'s> AuthoritySource<'s> {
    /// The authority that a server checks its clients against.
    pub(crate) fn of_server(tls: &'s ServerTls) -> Option<Self> {
        if let Some(name) = &tls.ca_cert_credential_name {
            return Some(Self::Secret(without_prefix(name), CA_CREDENTIAL_NAME));
        }
        if let Some(CredentialSource::Secret(name, field)) =
            CredentialSource::of_server(tls).into_iter().next()
        {
            return Some(Self::BesideSecret(name, field));
        }
        let listed = tls.tls_certificates.iter().find_map(|one| one.ca_certificates.as_deref());
        let certificates = tls.ca_certificates.as_deref().or(listed)?;
        Some(Self::Files { certificates, revocations: tls.ca_crl.as_deref() })
    }

    /// The authority that a rule checks endpoints against; `None` leaves it to what the system trusts.
    pub(crate) fn of_client(tls: &'s ClientTls) -> Option<Self> {
        if let Some(name) = &tls.credential_name {
            return Some(Self::BesideSecret(without_prefix(name), CREDENTIAL_NAME));
        }
        let certificates = tls.ca_certificates.as_deref().filter(|path| *path != SYSTEM)?;
        Some(Self::Files { certificates, revocations: tls.ca_crl.as_deref() })
    }

    /// Istio's name for it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Workload(_) => "ROOTCA".to_owned(),
            Self::BesideSecret(name, _) => format!("{KUBERNETES}{name}{CA_SUFFIX}"),
            Self::Secret(name, _) => format!("{KUBERNETES}{name}"),
            Self::Files { certificates, revocations: None } => format!("file-root:{certificates}"),
            Self::Files { certificates, revocations: Some(list) } => {
                format!("file-root:{certificates}~{list}")
            }
        }
    }

    /// The names of the Secrets that may hold it, the first that exists counts.
    pub(super) fn secrets(self) -> Vec<String> {
        match self {
            Self::BesideSecret(name, _) => vec![format!("{name}{CA_SUFFIX}"), name.to_owned()],
            Self::Secret(name, _) => vec![name.to_owned()],
            Self::Files { .. } | Self::Workload(_) => Vec::new(),
        }
    }

    pub(super) fn field(self) -> &'static str {
        match self {
            Self::BesideSecret(_, field) | Self::Secret(_, field) => field,
            Self::Files { .. } => "caCertificates",
            Self::Workload(_) => "mode",
        }
    }

    pub(super) fn shown(self) -> String {
        match self {
            Self::BesideSecret(name, _) | Self::Secret(name, _) => name.to_owned(),
            Self::Files { certificates, revocations: None } => certificates.to_owned(),
            Self::Files { certificates, revocations: Some(list) } => format!("{certificates} with {list}"),
            Self::Workload(identity) => identity.roots.clone(),
        }
    }
}
