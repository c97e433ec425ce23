//! Every certificate and authority of a snapshot, wherever it is used.

use std::collections::BTreeMap;

use super::{Authority, CertificateFacts, Credential, ServerCheck};
use crate::Snapshot;

/// A certificate or an authority by its name, for `config secrets`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretEntry<'s> {
    /// Istio's name for it.
    pub name: &'s str,
    /// What it is.
    pub kind: SecretKind,
    /// What the certificate says of itself, or the first CA certificate; `None` when there is nothing usable.
    pub facts: Option<CertificateFacts>,
}

/// What a secret is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SecretKind {
    /// A certificate with its key.
    CertificateChain,
    /// CA certificates.
    Authority,
}

impl Snapshot {
    /// Every certificate, as often as it is used.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        let own = self.tls_contexts().iter().flat_map(|context| &context.credentials);
        let upstream = self.clusters().iter().filter_map(|cluster| cluster.tls.as_ref()?.credential.as_ref());
        own.chain(upstream)
    }

    /// Every authority, as often as it is used.
    pub fn authorities(&self) -> impl Iterator<Item = &Authority> {
        let own = self.tls_contexts().iter().filter_map(|context| context.clients.authority());
        let upstream = self.clusters().iter().filter_map(|cluster| match &cluster.tls.as_ref()?.check {
            ServerCheck::Authority(authority, _) => Some(authority),
            ServerCheck::System(_) | ServerCheck::Unverified | ServerCheck::Nobody(_) => None,
        });
        own.chain(upstream)
    }

    /// Every certificate and authority once, by name.
    pub fn secrets(&self) -> Vec<SecretEntry<'_>> {
        let mut entries = BTreeMap::new();
        for Credential { name, certificate } in self.credentials() {
            let key = (name.as_str(), SecretKind::CertificateChain);
            entries.entry(key).or_insert_with(|| facts(certificate.as_ref().map(|one| one.chain())));
        }
        for Authority { name, bundle } in self.authorities() {
            let key = (name.as_str(), SecretKind::Authority);
            entries.entry(key).or_insert_with(|| facts(bundle.as_ref().map(|bundle| &*bundle.certificates)));
        }
        entries.into_iter().map(|((name, kind), facts)| SecretEntry { name, kind, facts }).collect()
    }
}

fn facts(chain: Option<&[rustls_pki_types::CertificateDer<'static>]>) -> Option<CertificateFacts> {
    CertificateFacts::of(chain?.first()?).ok()
}
