//! The stages of a translation in order, and what of one serves the next.

use resources::{Finding, ResourceSet};

use crate::{
    Credentials, Proxy, ProxyKind, Translation, access_logging::access_logging, clusters::Clusters,
    credentials::Contexts, destinations::Destinations, draft::DraftBuilder, gateway, inbound,
    metrics::metric_rules, mutual_tls::MutualTls, names::names, outbound, references, registry::Registry,
    route_dependencies::RouteDependencies, rules::Rules, sidecar_scope::SidecarScope, uncaptured,
    workloads::workloads, wrong_tls,
};

/// Translates again and again for one proxy, quickly where little has changed.
///
/// Every translation is what [`translate`](crate::translate) makes of the same arguments. What a VirtualService came
/// to is kept with everything it followed from and used again while that is the same: the resource itself and those
/// it delegates to, in memory, and what its routes depend on beside them.
#[derive(Debug, Default)]
pub struct Translator {
    proxy: Option<Proxy>,
    dependencies: RouteDependencies,
    rules: Rules,
}

impl Translator {
    /// Works out what `proxy` serves when these resources are in force.
    pub fn translate(
        &mut self,
        resources: &ResourceSet,
        credentials: &Credentials<'_>,
        proxy: &Proxy,
    ) -> Translation {
        if self.proxy.as_ref() != Some(proxy) {
            *self = Self { proxy: Some(proxy.clone()), ..Self::default() };
        }
        let mut findings = Vec::new();
        let scope = SidecarScope::new(resources, proxy, &mut findings);
        let registry = Registry::new(resources, &scope, proxy, &mut findings);
        let mut draft = DraftBuilder::new(&proxy.mesh);
        draft.own_ports = proxy.refused_endpoints();
        draft.access_logging = access_logging(resources, &registry, &mut findings);
        draft.metric_rules = metric_rules(resources, &registry, &mut findings);
        let mut rules = Rules::new(resources, std::mem::take(&mut self.rules), proxy, &mut findings);
        let destinations = Destinations::new(resources, proxy, &mut findings);
        let mut contexts = Contexts::new(resources, credentials, proxy);
        let tls = (&mut contexts, &mut findings);
        let clusters = Clusters::new(resources, (&registry, &scope), &destinations, tls);
        if let Some(outdated) = self.dependencies.update(resources, &registry, &clusters) {
            rules.forget(outdated);
        }
        match proxy.kind {
            ProxyKind::Router => {
                findings.extend(contexts.doubts_about_own());
                gateway::build(
                    resources,
                    (&registry, &clusters, &rules),
                    &mut contexts,
                    (&mut draft, &mut findings),
                );
            }
            ProxyKind::Sidecar => {
                outbound::build(resources, (&registry, &clusters, &rules, &scope), &mut draft, &mut findings);
                let mutual_tls = MutualTls::of(resources, proxy);
                draft.peer_authentication = Some(mutual_tls.told(proxy, resources.refused()));
                let served = (&registry, &scope, &clusters);
                inbound::build(served, &mutual_tls, &mut contexts, (&mut draft, &mut findings));
            }
        }
        findings.extend(references::check(resources, (&registry, &rules, &destinations)));
        findings.extend(wrong_tls::check(&registry, &destinations));
        let snapshot = draft.finish(clusters, workloads(resources, proxy), names(&registry, &scope));
        findings.extend(uncaptured::check(resources, &snapshot));
        self.rules = rules;
        Translation { snapshot, findings: in_order(findings), changes_at: contexts.changes_at() }
    }
}

fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| (&a.place, &a.path).cmp(&(&b.place, &b.path)));
    findings.dedup();
    findings
}
