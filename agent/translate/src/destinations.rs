//! DestinationRules: which one is for a service, what several for one host come to, and what it makes of a cluster.

mod apply;
mod layers;
mod locality;
mod merge;
mod zones;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use resources::{DestinationRule, Finding, Labels, Object, Path, ResourceSet, Subset};
use snapshot::{HostName, HostTable, PolicyLevel, PolicySource, PolicySources};

use crate::{
    hosts::{full_name, pattern},
    proxy::Proxy,
    visibility::{self, Reach},
};

pub(crate) use apply::apply;
pub(crate) use layers::Policy;
pub(crate) use locality::{Caller, Group, Near, arranged};
use merge::Merged;

/// The DestinationRules that a proxy sees, found by service.
#[derive(Debug, Default)]
pub(crate) struct Destinations<'r> {
    /// Of one host and one level each, those with a selector first, then the oldest.
    groups: Vec<Vec<Merged<'r>>>,
    /// Of the proxy's own namespace, whoever else may see them.
    own: HostTable<u32>,
    /// Exported to the proxy, by namespace.
    exported: HashMap<&'r str, HostTable<u32>, FixedState>,
    root_namespace: String,
}

/// What is written about a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostPolicy<'d> {
    merged: &'d Merged<'d>,
}

impl<'r> Destinations<'r> {
    /// Puts the rules in order. Of several for one host in one namespace that are seen alike, the oldest is completed
    /// by the others; what they lose is a finding.
    pub(crate) fn new(resources: &'r ResourceSet, proxy: &Proxy, findings: &mut Vec<Finding>) -> Self {
        let mut destinations = Self { root_namespace: proxy.mesh.root_namespace.clone(), ..Self::default() };
        for rule in resources.destination_rules().iter().map(Arc::as_ref) {
            let reach = visibility::destination_rule(rule, proxy);
            let is_own = rule.meta.namespace() == proxy.namespace;
            let selector = rule.spec.workload_selector.as_ref();
            if selector.is_some_and(|wanted| !is_own || !selects(wanted, &proxy.labels)) {
                continue;
            }
            // What the root namespace exports is the last resort, for proxies that live there too.
            let in_root = is_own && proxy.namespace == proxy.mesh.root_namespace;
            if is_own && (!in_root || reach == Some(Reach::Private)) {
                destinations.add(rule, None, proxy, findings);
            } else if reach.is_some() {
                destinations.add(rule, Some(rule.meta.namespace()), proxy, findings);
            }
        }
        for group in &mut destinations.groups {
            group.sort_by_key(|merged| !merged.has_selector());
        }
        destinations
    }

    /// Adds a rule to the table of a namespace, or of the proxy's own. Rules come oldest first.
    fn add(
        &mut self,
        rule: &'r Object<DestinationRule>,
        namespace: Option<&'r str>,
        proxy: &Proxy,
        findings: &mut Vec<Finding>,
    ) {
        let host = full_name(&rule.spec.host, rule.meta.namespace(), proxy);
        let Some(pattern) = pattern(&host) else { return };
        let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let table = match namespace {
            Some(namespace) => self.exported.entry(namespace).or_default(),
            None => &mut self.own,
        };
        let index = table.get_or_insert(&pattern, next);
        if index == next {
            self.groups.push(Vec::new());
        }
        let group = &mut self.groups[index as usize];
        match group.iter_mut().find(|merged| merged.is_alike(rule)) {
            Some(merged) => merged.complete(rule, findings),
            None => group.push(Merged::new(rule)),
        }
    }

    /// What is written about a service: in the proxy's namespace, else in the service's, else in the root namespace.
    /// The first that has a rule for the host is asked alone, and there the most specific host.
    pub(crate) fn of(&self, host: &str, namespace: &str) -> Option<HostPolicy<'_>> {
        let host = HostName::of_authority(host);
        let exported = |namespace: &str| self.exported.get(namespace).and_then(|table| table.find(&host));
        let index = self
            .own
            .find(&host)
            .or_else(|| exported(namespace))
            .or_else(|| exported(&self.root_namespace))?;
        self.groups[index as usize].first().map(|merged| HostPolicy { merged })
    }
}

fn selects(wanted: &Labels, labels: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl<'d> HostPolicy<'d> {
    /// `<namespace>/<name>` of the rule that decides.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.merged.oldest.meta.namespace(), self.merged.oldest.meta.name())
    }

    /// The rule that decides.
    pub(crate) fn rule(&self) -> &'d Object<DestinationRule> {
        self.merged.oldest
    }

    pub(crate) fn subsets(&self) -> impl Iterator<Item = &'d Subset> {
        self.merged.subsets.iter().copied()
    }

    /// What holds for a port of the service, or of one of its subsets.
    pub(crate) fn policy(&self, subset: Option<&'d Subset>, port: u16) -> Policy<'d> {
        use PolicyLevel::{Host, HostPort, Subset, SubsetPort};
        let whole = Policy::default().overridden(self.merged.policy, port, [Host, HostPort]);
        let of_subset = subset.and_then(|subset| subset.traffic_policy.as_ref());
        whole.overridden(of_subset, port, [Subset, SubsetPort])
    }

    /// Where the blocks of a policy are written; `mesh` says of `connectionPool` and `outlierDetection` whether the mesh
    /// has one, too.
    pub(crate) fn sources(
        this: Option<Self>,
        policy: &Policy<'_>,
        subset: Option<&Subset>,
        [pool_of_mesh, detection_of_mesh]: [bool; 2],
    ) -> PolicySources {
        let source = |level: Option<PolicyLevel>, over_mesh: bool| match (this, level) {
            (Some(own), Some(level)) => Some(own.source(level, subset, over_mesh)),
            _ => over_mesh.then_some(PolicySource::Mesh("defaultTrafficPolicy")),
        };
        PolicySources {
            load_balancer: source(policy.levels.load_balancer, false),
            connection_pool: source(policy.levels.connection_pool, pool_of_mesh),
            outlier_detection: source(policy.levels.outlier_detection, detection_of_mesh),
            tls: source(policy.levels.tls, false),
        }
    }

    fn source(self, level: PolicyLevel, subset: Option<&Subset>, over_mesh: bool) -> PolicySource {
        let meta = &self.writer(level, subset).meta;
        PolicySource::Rule { rule: [meta.namespace(), "/", meta.name()].concat().into(), level, over_mesh }
    }

    /// Hands on the rule with the `tls` of a level, and its place there.
    pub(crate) fn with_tls<T>(
        self,
        (level, subset, port): (PolicyLevel, Option<&Subset>, u16),
        tell: impl FnOnce(&Object<DestinationRule>, &Path<'_>) -> T,
    ) -> T {
        let rule = self.writer(level, subset);
        let is_meant = |own: &Subset| subset.is_some_and(|subset| std::ptr::eq(own, subset));
        let at_subset = rule.spec.subsets.iter().position(is_meant).unwrap_or_default();
        let spec = Path::ROOT.field("spec");
        let subsets = spec.field("subsets");
        let of_subset = subsets.index(at_subset);
        let (holder, written) = match level {
            PolicyLevel::Host | PolicyLevel::HostPort => (&spec, rule.spec.traffic_policy.as_ref()),
            PolicyLevel::Subset | PolicyLevel::SubsetPort => {
                (&of_subset, subset.and_then(|subset| subset.traffic_policy.as_ref()))
            }
        };
        let policy = holder.field("trafficPolicy");
        let settings = policy.field("portLevelSettings");
        let at_port = written.and_then(|written| written.port_level.iter().position(|own| own.port == port));
        let of_port = settings.index(at_port.unwrap_or_default());
        match level {
            PolicyLevel::Host | PolicyLevel::Subset => tell(rule, &policy.field("tls")),
            PolicyLevel::HostPort | PolicyLevel::SubsetPort => tell(rule, &of_port.field("tls")),
        }
    }

    /// Who has written a level.
    fn writer(self, level: PolicyLevel, subset: Option<&Subset>) -> &'d Object<DestinationRule> {
        let of_subset = || {
            let mut subsets = self.merged.subsets.iter();
            let at = subsets.position(|own| subset.is_some_and(|subset| std::ptr::eq(*own, subset)))?;
            self.merged.subset_of.get(at).copied()
        };
        let writer = match level {
            PolicyLevel::Host | PolicyLevel::HostPort => self.merged.policy_of,
            PolicyLevel::Subset | PolicyLevel::SubsetPort => of_subset(),
        };
        writer.unwrap_or(self.merged.oldest)
    }
}

/// Whether a workload with these labels is in a subset; of what is not known nothing is but in those without labels.
pub(crate) fn is_in(subset: &Subset, labels: Option<&Labels>) -> bool {
    subset.labels.is_empty() || labels.is_some_and(|labels| selects(&subset.labels, labels))
}
