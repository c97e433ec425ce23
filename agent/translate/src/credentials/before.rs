//! What a server had before stays where what it names now is not there or cannot be used.
//!
//! Each part is replaced by itself, so that everything else holds as it is written now, and what is asked of clients
//! never becomes less: a server that has come to verify its clients and has nothing to verify them with serves nobody,
//! and one whose CA certificates stay keeps the conditions on clients that came with them.

use std::collections::HashMap;

use resources::ServerTls;
use snapshot::{ClientCertificates, Credential, HostPattern, PeerRules, Snapshot, TlsContext, TlsParameters};

use super::{
    Contexts, Unusable, parameters,
    source::{AuthoritySource, CredentialSource},
};

/// How servers terminated TLS in the snapshot before, by the names of their filter chains.
#[derive(Default)]
pub(super) struct Before<'c>(HashMap<&'c str, (&'c [HostPattern], &'c TlsContext)>);

impl<'c> Before<'c> {
    pub(super) fn of(last_good: Option<&'c Snapshot>) -> Self {
        let Some(snapshot) = last_good else { return Self::default() };
        let chains = snapshot.listeners().iter().flat_map(|listener| &listener.filter_chains);
        let had = chains.filter_map(|chain| {
            let context = snapshot.tls_context(chain.tls?);
            let had = (&*chain.matches.server_names, context);
            (!context.is_of_workload()).then_some((chain.name.as_str(), had))
        });
        Self(had.collect())
    }

    /// How the server with this filter chain did it, if it served any of these names; none stands for every name.
    pub(super) fn server(&self, chain: &str, names: &[HostPattern]) -> Option<&'c TlsContext> {
        let (had, context) = self.0.get(chain).copied()?;
        let served = had.is_empty() || names.is_empty() || names.iter().any(|name| had.contains(name));
        served.then_some(context)
    }
}

impl Contexts<'_> {
    /// The certificates of a server.
    pub(super) fn credentials_of_server(
        &mut self,
        tls: &ServerTls,
        before: Option<&TlsContext>,
        unusable: &mut Vec<Unusable>,
    ) -> Vec<Credential> {
        let sources = CredentialSource::of_server(tls);
        let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
        let mut credentials = Vec::new();
        for (at, source) in sources.into_iter().enumerate() {
            let (mut credential, mut wrong) = self.loader.find_credential(source);
            if credential.certificate.is_none() {
                let had = before.and_then(|before| before.credentials.get(at));
                let had = had.filter(|had| had.certificate.is_some() && !names.contains(&had.name));
                wrong = wrong.map(|wrong| match had {
                    Some(had) => wrong.keeping(&format!("certificate of this server, `{}`,", had.name)),
                    None => wrong.refusing(),
                });
                credential = had.map_or(credential, |had| self.renewed(had));
            }
            unusable.extend(wrong);
            credentials.push(credential);
        }
        credentials
    }

    /// A certificate that stays: its Secret is followed, so that it does not end while there is a newer one.
    fn renewed(&mut self, had: &Credential) -> Credential {
        let now = CredentialSource::of_name(&had.name).map(|source| self.loader.find_credential(source).0);
        now.filter(|now| now.certificate.is_some()).unwrap_or_else(|| had.clone())
    }

    /// The conditions on certificates of clients: `rules`, and who must have issued them.
    pub(super) fn rules_of_server(
        &mut self,
        source: AuthoritySource<'_>,
        rules: PeerRules,
        before: Option<&TlsContext>,
        unusable: &mut Vec<Unusable>,
    ) -> PeerRules {
        let (authority, wrong) = self.loader.find_authority(source);
        if authority.bundle.is_some() {
            unusable.extend(wrong);
            return PeerRules { authority, ..rules };
        }
        let had = before.and_then(|before| match &before.clients {
            ClientCertificates::Optional(had) | ClientCertificates::Required(had) => Some(had),
            ClientCertificates::NotAsked | ClientCertificates::Unverified { .. } => None,
        });
        let had = had.filter(|had| had.authority.bundle.is_some() && is_as_strict(had, &rules));
        unusable.extend(wrong.map(|wrong| match (had, before) {
            (Some(had), _) => {
                wrong.keeping(&format!("CA certificate of this server, `{}`,", had.authority.name))
            }
            (None, Some(_)) => wrong.refusing_unverified(),
            (None, None) => wrong.refusing(),
        }));
        had.cloned().unwrap_or(PeerRules { authority, ..rules })
    }

    /// Versions and algorithms of a server; `None` when nothing is left of them.
    pub(super) fn parameters_of_server(
        &self,
        tls: &ServerTls,
        before: Option<&TlsContext>,
        unusable: &mut Vec<Unusable>,
    ) -> Option<TlsParameters> {
        let defaults = &self.proxy.mesh.tls_defaults;
        let wrong = match parameters::of_server(tls, defaults) {
            Ok(parameters) => return Some(parameters),
            Err(wrong) => wrong,
        };
        let had = before.filter(|before| before.missing.is_none()).map(|before| &before.parameters);
        let had = had.filter(|had| had.min_version >= parameters::min_version(tls, defaults));
        unusable.push(match had {
            Some(_) => wrong.keeping("choice of versions and algorithms of this server"),
            None => wrong.refusing(),
        });
        had.cloned()
    }
}

/// Whether whoever satisfies the rules of before satisfies those of now, whatever their authorities.
fn is_as_strict(had: &PeerRules, now: &PeerRules) -> bool {
    let asks_no_digest = now.public_keys.is_empty() && now.certificates.is_empty();
    let has_same_digests = (&had.public_keys, &had.certificates) == (&now.public_keys, &now.certificates);
    (now.names.is_empty() || had.names == now.names) && (asks_no_digest || has_same_digests)
}
