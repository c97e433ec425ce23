//! TLS to endpoints, as DestinationRules ask for it and as the mesh has it by itself.

use std::{collections::BTreeSet, sync::Arc};

use resources::{ClientTls, ClientTlsMode};
use snapshot::{
    Authority, Credential, NameMatch, ServerCheck, ServerNameSource, TlsContext, TlsParameters, UpstreamTls,
    UpstreamTlsUse,
};

use super::{AuthoritySource, Contexts, CredentialSource, Unusable, no_identity, parameters};
use crate::clusters::name_for_peers;

/// A port of a service, as far as TLS to it depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamPort<'p> {
    pub(crate) host: &'p str,
    pub(crate) namespace: &'p str,
    pub(crate) subset: &'p str,
    pub(crate) port: u16,
    /// Whether its pods belong to the mesh.
    pub(crate) is_in_mesh: bool,
    /// Names that the certificates of its endpoints may carry, as the service itself says.
    pub(crate) names: &'p [String],
    /// Service accounts of its pods; empty when they are not all known.
    pub(crate) accounts: &'p BTreeSet<&'p str>,
}

impl Contexts<'_> {
    /// How TLS is spoken to a port: as its rule says; where none does, to those that speak the mesh's TLS.
    pub(crate) fn of_upstream(
        &mut self,
        rule: Option<&ClientTls>,
        port: UpstreamPort<'_>,
    ) -> (Option<Arc<UpstreamTls>>, Vec<Unusable>) {
        let has_identity = self.proxy.identity.is_some();
        match rule.map(|rule| (rule, rule.mode)) {
            Some((_, ClientTlsMode::Disable)) => (None, Vec::new()),
            Some((rule, ClientTlsMode::Simple | ClientTlsMode::Mutual)) => self.written(rule, port.names),
            Some((_, ClientTlsMode::Unreadable)) => (Some(Arc::new(to_nobody())), Vec::new()),
            Some((_, ClientTlsMode::IstioMutual)) => self.between_proxies(port, UpstreamTlsUse::All),
            None if has_identity && port.is_in_mesh && self.proxy.mesh.auto_mtls => {
                self.between_proxies(port, UpstreamTlsUse::Ready)
            }
            None => (None, Vec::new()),
        }
    }

    /// How TLS is spoken to hosts that no resource names.
    pub(crate) fn of_unknown(&mut self, rule: &ClientTls) -> (Option<Arc<UpstreamTls>>, Vec<Unusable>) {
        match rule.mode {
            ClientTlsMode::Disable => (None, Vec::new()),
            ClientTlsMode::Unreadable => (Some(Arc::new(to_nobody())), Vec::new()),
            ClientTlsMode::Simple | ClientTlsMode::Mutual | ClientTlsMode::IstioMutual => {
                self.written(rule, &[])
            }
        }
    }

    fn written(
        &mut self,
        rule: &ClientTls,
        of_service: &[String],
    ) -> (Option<Arc<UpstreamTls>>, Vec<Unusable>) {
        let mut unusable = Vec::new();
        let of_rule = rule.subject_alt_names.as_slice();
        let names = exactly(if of_rule.is_empty() { of_service } else { of_rule }).collect();
        let check = match AuthoritySource::of_client(rule) {
            _ if rule.insecure_skip_verify => ServerCheck::Unverified,
            None => ServerCheck::System(names),
            Some(source) => {
                let (authority, wrong) = self.loader.authority(source);
                unusable.extend(wrong);
                unusable.extend(self.dates_of_authority(source));
                ServerCheck::Authority(authority, names)
            }
        };
        let shown = CredentialSource::of_client(rule).filter(|_| rule.mode == ClientTlsMode::Mutual);
        let credential = shown.map(|source| {
            let (credential, wrong) = self.loader.credential(source);
            unusable.extend(wrong.map(|wrong| match wrong.field {
                "serverCertificate" => Unusable { field: "clientCertificate", ..wrong },
                _ => wrong,
            }));
            unusable.extend(self.dates_of(&credential, (source.field_of_client(), &source.shown())));
            credential
        });
        let (mut check, mut parameters) = (check, TlsParameters::default());
        match parameters::of_mesh(&self.proxy.mesh.tls_defaults, "tlsDefaults") {
            Ok(wanted) => parameters = wanted,
            Err(wrong) => {
                // Nobody is accepted, other than everybody on other terms.
                check = ServerCheck::Nobody("`tlsDefaults` of the mesh configuration leave nothing to speak");
                unusable.push(wrong);
            }
        }
        let server_name = rule.sni.clone().filter(|sni| !sni.is_empty());
        let tls = UpstreamTls {
            endpoints: UpstreamTlsUse::All,
            server_name: server_name.map_or(ServerNameSource::Authority, ServerNameSource::Fixed),
            check,
            credential,
            of_mesh: false,
            parameters,
        };
        (Some(Arc::new(tls)), unusable)
    }

    /// The mesh's own: the workload's certificate, and for the endpoint one of the service accounts of its pods, or of the
    /// service's namespace when these are not known, or one with a name that the service says.
    fn between_proxies(
        &mut self,
        port: UpstreamPort<'_>,
        endpoints: UpstreamTlsUse,
    ) -> (Option<Arc<UpstreamTls>>, Vec<Unusable>) {
        let mut unusable = Vec::new();
        let (mut credential, mut authority) =
            (Credential { name: TlsContext::WORKLOAD.to_owned(), certificate: None }, Authority::default());
        match self.proxy.identity.as_ref() {
            // Whoever looks at resources alone has no workload, and so no place where its identity could be.
            None => unusable.extend(self.loader.stored().looks_at_files().then(no_identity)),
            Some(identity) => {
                let (own, wrong) = self.loader.credential(CredentialSource::Workload(identity));
                let (roots, wrong_roots) = self.loader.authority(AuthoritySource::Workload(identity));
                (credential, authority) = (own, roots);
                unusable.extend(wrong.into_iter().chain(wrong_roots));
            }
        }
        let parameters = self.mesh_parameters(&mut credential, &mut unusable);
        let UpstreamPort { host, namespace, subset, port, names, accounts, .. } = port;
        let domains = self.proxy.mesh.trust_domains();
        let of_mesh = domains.into_iter().flat_map(|domain| peers_in(domain, namespace, accounts));
        let names = of_mesh.chain(exactly(names)).collect();
        let tls = UpstreamTls {
            endpoints,
            server_name: ServerNameSource::Fixed(name_for_peers(port, subset, host)),
            check: ServerCheck::Authority(authority, names),
            credential: Some(credential),
            of_mesh: true,
            parameters,
        };
        (Some(Arc::new(tls)), unusable)
    }
}

/// TLS of which nobody knows how it is to be spoken.
fn to_nobody() -> UpstreamTls {
    UpstreamTls {
        endpoints: UpstreamTlsUse::All,
        server_name: ServerNameSource::Authority,
        check: ServerCheck::Nobody("the DestinationRule asks for TLS and cannot be read"),
        credential: None,
        of_mesh: false,
        parameters: TlsParameters::default(),
    }
}

/// Who the endpoints of a service may be in a trust domain: one of the accounts, or anybody of its namespace when these
/// are not known.
fn peers_in(domain: &str, namespace: &str, accounts: &BTreeSet<&str>) -> Vec<NameMatch> {
    let peers = format!("spiffe://{domain}/ns/{namespace}/");
    if accounts.is_empty() {
        return vec![NameMatch::Prefix(peers)];
    }
    accounts.iter().map(|name| NameMatch::Exact(format!("{peers}sa/{name}"))).collect()
}

fn exactly(names: &[String]) -> impl Iterator<Item = NameMatch> {
    names.iter().cloned().map(NameMatch::Exact)
}

#[cfg(test)]
mod tests {
    use resources::ResourceSet;
    use snapshot::ClientCertificates;

    use super::*;
    use crate::{
        credentials::Credentials,
        proxy::{Proxy, ProxyKind, WorkloadIdentity},
    };

    #[test]
    fn peers_may_be_of_any_trust_domain_of_the_mesh() {
        let (resources, accounts) = (ResourceSet::default(), BTreeSet::from(["web"]));
        let mut proxy = Proxy::new(ProxyKind::Sidecar, "ns");
        proxy.identity = Some(WorkloadIdentity::in_directory("/certs"));
        proxy.mesh.trust_domain_aliases = ["old", "cluster.local", "old"].map(str::to_owned).to_vec();
        let mut contexts = Contexts::new(&resources, &Credentials::UNSEEN, &proxy);
        let (names, accounts) = (&[], &accounts);
        let (host, namespace, subset) = ("a.ns.svc.cluster.local", "ns", "");
        let port = UpstreamPort { host, namespace, subset, port: 80, is_in_mesh: true, names, accounts };
        let tls = contexts.of_upstream(None, port).0.unwrap();
        let ServerCheck::Authority(_, names) = &tls.check else { panic!("{tls:?}") };
        let of = |domain: &str| format!("spiffe://{domain}/ns/ns/sa/web");
        assert_eq!(*names, [NameMatch::Exact(of("cluster.local")), NameMatch::Exact(of("old"))]);
        let (context, _) = contexts.of_mesh();
        let ClientCertificates::Required(rules) = context.clients else { panic!("{:?}", context.clients) };
        let of = |domain: &str| NameMatch::Prefix(format!("spiffe://{domain}/"));
        assert_eq!(rules.names, [of("cluster.local"), of("old")]);
    }

    #[test]
    fn tls_is_spoken_unasked_only_where_the_mesh_says_so() {
        let (resources, accounts) = (ResourceSet::default(), BTreeSet::new());
        for auto_mtls in [true, false] {
            let mut proxy = Proxy::new(ProxyKind::Sidecar, "ns");
            proxy.identity = Some(WorkloadIdentity::in_directory("/certs"));
            proxy.mesh.auto_mtls = auto_mtls;
            let mut contexts = Contexts::new(&resources, &Credentials::UNSEEN, &proxy);
            let (host, namespace, subset) = ("a.ns.svc.cluster.local", "ns", "");
            let names = &[];
            let port = UpstreamPort {
                host,
                namespace,
                subset,
                port: 80,
                is_in_mesh: true,
                names,
                accounts: &accounts,
            };
            assert_eq!(contexts.of_upstream(None, port).0.is_some(), auto_mtls);
        }
    }
}
