//! `networking.istio.io` DestinationRule: how a service is talked to, and the subsets of its endpoints.

mod connection_pool;
mod load_balancer;
mod locality;
mod outlier_detection;
#[cfg(test)]
mod tests;
mod tls;
mod traffic_policy;

use std::collections::HashSet;

pub use connection_pool::{ConnectionPool, H2Upgrade, HttpKeepalive, HttpPool, TcpKeepalive, TcpPool};
pub use load_balancer::{ConsistentHash, HashAlgorithm, HashCookie, HashKey, LoadBalancer, SimpleLb, Warmup};
pub use locality::{Distribute, Failover, LocalityLb, ZoneAwareLb};
pub use outlier_detection::OutlierDetection;
pub use tls::{ClientTls, ClientTlsMode};
pub use traffic_policy::{
    PortTrafficPolicy, ProxyProtocol, RetryBudget, TrafficPolicy, Tunnel, TunnelProtocol,
};

use crate::{
    Labels, Path,
    decode::{Context, Fields, Shape},
    export_to::check_export_to,
    finding::Problem,
    host,
    labels::{MatchLabels, check_labels},
};

/// Spec of a DestinationRule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DestinationRule {
    /// Service the rule is for, in lower case: a short or full name, `*.suffix` or `*`.
    pub host: String,
    /// What holds for all endpoints of the service.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named groups of endpoints.
    pub subsets: Vec<Subset>,
    /// Namespaces that see the rule; empty means all.
    pub export_to: Vec<String>,
    /// Labels of the client workloads the rule is for (`workloadSelector.matchLabels`); absent means all.
    pub workload_selector: Option<Labels>,
}

// Percentages are finite numbers, so equality is an equivalence.
impl Eq for DestinationRule {}

impl Shape for DestinationRule {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let host: String = fields.required("host");
        let selector: Option<MatchLabels> = fields.optional("workloadSelector");
        Self {
            host: host.to_ascii_lowercase(),
            traffic_policy: fields.optional("trafficPolicy"),
            subsets: fields.or_default("subsets"),
            export_to: fields.or_default("exportTo"),
            workload_selector: selector.map(|selector| selector.0),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Err(wrong) = host::check_wildcard_host(&self.host) {
            let problem = Problem::new(wrong).found(&self.host);
            context.error(&at.field("host"), problem.expected("the name of a service, `*.suffix` or `*`"));
        }
        self.check_subset_names(at, context);
        let export_to = at.field("exportTo");
        check_export_to(&self.export_to, false, &export_to, context);
        let namespace = context.namespace();
        let own = |to: &String| to == "." || to == namespace;
        if self.workload_selector.is_some() && !self.export_to.is_empty() && !self.export_to.iter().all(own) {
            let problem = Problem::new("reaches beyond the namespace of a rule that has a workloadSelector");
            context.error(&export_to, problem.expected("`.`, or nothing"));
        }
    }
}

impl DestinationRule {
    /// Whether it stands in for a rule that cannot be read: TLS must be spoken, and nobody knows how.
    pub fn is_unreadable(&self) -> bool {
        let tls = self.traffic_policy.as_ref().and_then(|policy| policy.tls.as_ref());
        tls.is_some_and(|tls| tls.mode == ClientTlsMode::Unreadable)
    }

    /// What is left of a rule whose policies cannot be believed.
    pub(crate) fn unreadable(self) -> Self {
        let tls = ClientTls { mode: ClientTlsMode::Unreadable, ..ClientTls::default() };
        let subsets = self.subsets.into_iter().map(|subset| Subset { traffic_policy: None, ..subset });
        Self {
            traffic_policy: Some(TrafficPolicy { tls: Some(tls), ..TrafficPolicy::default() }),
            subsets: subsets.collect(),
            ..self
        }
    }

    fn check_subset_names(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let (subsets, mut names) = (at.field("subsets"), HashSet::new());
        for (index, subset) in self.subsets.iter().enumerate() {
            if !names.insert(&subset.name) {
                let problem = Problem::new("is the name of an earlier subset").found(&subset.name);
                context.error(&subsets.index(index).field("name"), problem.expected("a name of its own"));
            }
        }
    }
}

/// A named group of endpoints (`Subset`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subset {
    /// Name that routes use.
    pub name: String,
    /// Labels an endpoint must all have; empty selects every endpoint.
    pub labels: Labels,
    /// What holds for these endpoints instead of the rule's own policy, block by block.
    pub traffic_policy: Option<TrafficPolicy>,
}

impl Shape for Subset {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            name: fields.required("name"),
            labels: fields.or_default("labels"),
            traffic_policy: fields.optional("trafficPolicy"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if !host::is_label(&self.name) {
            let problem = Problem::new("is not a subset name").found(&self.name);
            context.error(&at.field("name"), problem.expected("letters, digits and `-`"));
        }
        check_labels(&self.labels, &at.field("labels"), context);
    }
}
