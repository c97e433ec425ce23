//! Preference for endpoints that are near.

use std::collections::{BTreeMap, HashSet};

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    finding::Problem,
};

/// `LocalityLoadBalancerSetting`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LocalityLb {
    /// Whether the mesh-wide setting is turned on or off for the service.
    pub enabled: Option<bool>,
    /// Fixed shares of traffic by locality.
    pub distribute: Vec<Distribute>,
    /// Regions that take over from one another.
    pub failover: Vec<Failover>,
    /// Labels by which endpoints are near, the first counting most: a name, or `name=value`.
    pub failover_priority: Vec<String>,
}

impl Shape for LocalityLb {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            enabled: fields.optional("enabled"),
            distribute: fields.or_default("distribute"),
            failover: fields.or_default("failover"),
            failover_priority: fields.or_default("failoverPriority"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let fails_over = !self.failover.is_empty() || !self.failover_priority.is_empty();
        if fails_over && !self.distribute.is_empty() {
            let problem = Problem::new("has both fixed shares and an order of failing over");
            context.error(at, problem.expected("`distribute`, or `failover` and `failoverPriority`"));
        }
        let list = at.field("distribute");
        let mut seen = HashSet::new();
        for (index, distribute) in self.distribute.iter().enumerate() {
            if !seen.insert(&distribute.from) {
                let problem = Problem::new("is written twice").found(&distribute.from);
                context.error(&list.index(index).field("from"), problem.expected("each locality once"));
            }
        }
    }
}

/// `ZoneAwareLoadBalancerSetting`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ZoneAwareLb {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Regions that take over from one another.
    pub failover: Vec<Failover>,
    /// Labels by which endpoints are near, the first counting most.
    pub failover_priority: Vec<String>,
    /// Number of endpoints below which zones do not count; 6 when absent.
    pub min_cluster_size: Option<u32>,
}

impl Shape for ZoneAwareLb {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            enabled: fields.optional("enabled"),
            failover: fields.or_default("failover"),
            failover_priority: fields.or_default("failoverPriority"),
            min_cluster_size: fields.optional("minClusterSize"),
        }
    }
}

/// Shares of the traffic from one locality (`LocalityLoadBalancerSetting.Distribute`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribute {
    /// Locality of the client: `region/zone/subzone`, of which the last part written may be `*`.
    pub from: String,
    /// Percent by locality of the endpoints; the sum is 100.
    pub to: BTreeMap<String, u32>,
}

impl Shape for Distribute {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { from: fields.required("from"), to: fields.required("to") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_locality(&self.from, &at.field("from"), context);
        let to = at.field("to");
        for (locality, weight) in &self.to {
            let at = to.key(locality);
            check_locality(locality, &at, context);
            if !(1..=100).contains(weight) {
                context.error(&at, Problem::new("is no share").found(weight).expected("1–100"));
            }
        }
        let sum: u64 = self.to.values().copied().map(u64::from).sum();
        if sum != 100 {
            context.error(&to, Problem::new("does not add up").found(sum).expected("shares that sum to 100"));
        }
    }
}

/// `region/zone/subzone`, from the left as far as it matters.
fn check_locality(locality: &str, at: &Path<'_>, context: &mut Context<'_>) {
    let parts: Vec<_> = locality.split('/').collect();
    let starred = locality.matches('*').count();
    let star_is_last = starred == 0 || (starred == 1 && parts.last() == Some(&"*"));
    if parts.len() > 3 || parts.contains(&"") || !star_is_last {
        let problem = Problem::new("is no locality").found(locality);
        context.error(at, problem.expected("`region/zone/subzone`, the last part may be `*`"));
    }
}

/// A region that takes over from another (`LocalityLoadBalancerSetting.Failover`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failover {
    /// Region of the client.
    pub from: String,
    /// Region that takes over.
    pub to: String,
}

impl Shape for Failover {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { from: fields.required("from"), to: fields.required("to") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (name, region) in [("from", &self.from), ("to", &self.to)] {
            if region.contains('*') {
                let problem = Problem::new("has a wildcard").found(region);
                context.error(&at.field(name), problem.expected("the name of a region"));
            }
        }
        if self.from == self.to {
            let problem = Problem::new("fails over to itself").found(&self.to);
            context.error(&at.field("to"), problem.expected("another region"));
        }
    }
}
