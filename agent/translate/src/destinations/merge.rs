//! Several DestinationRules for one host.

use resources::{DestinationRule, Finding, Object, Path, Problem, Rule, Severity, Subset, TrafficPolicy};

/// What the rules of one namespace for one host come to that are seen by the same proxies.
#[derive(Debug)]
pub(super) struct Merged<'r> {
    pub(super) oldest: &'r Object<DestinationRule>,
    pub(super) policy: Option<&'r TrafficPolicy>,
    pub(super) subsets: Vec<&'r Subset>,
    /// Who wrote the policy and each subset.
    pub(super) policy_of: Option<&'r Object<DestinationRule>>,
    pub(super) subset_of: Vec<&'r Object<DestinationRule>>,
}

impl<'r> Merged<'r> {
    pub(super) fn new(rule: &'r Object<DestinationRule>) -> Self {
        let policy = rule.spec.traffic_policy.as_ref();
        Self {
            oldest: rule,
            policy,
            subsets: rule.spec.subsets.iter().collect(),
            policy_of: policy.map(|_| rule),
            subset_of: vec![rule; rule.spec.subsets.len()],
        }
    }

    pub(super) fn has_selector(&self) -> bool {
        self.oldest.spec.workload_selector.is_some()
    }

    /// Whether another rule is for the same proxies.
    pub(super) fn is_alike(&self, rule: &Object<DestinationRule>) -> bool {
        let (mine, other) = (&self.oldest.spec, &rule.spec);
        let public = |export_to: &[String]| export_to.is_empty() || export_to == ["*"];
        let same_export =
            mine.export_to == other.export_to || (public(&mine.export_to) && public(&other.export_to));
        same_export && mine.workload_selector == other.workload_selector
    }

    /// Adds what a younger rule says that no older one does.
    pub(super) fn complete(&mut self, rule: &'r Object<DestinationRule>, findings: &mut Vec<Finding>) {
        let spec = Path::ROOT.field("spec");
        if let Some(policy) = &rule.spec.traffic_policy {
            match self.policy_of {
                Some(owner) => findings.push(lost(rule, &spec.field("trafficPolicy"), "the host", owner)),
                None => (self.policy, self.policy_of) = (Some(policy), Some(rule)),
            }
        }
        let subsets = spec.field("subsets");
        for (index, subset) in rule.spec.subsets.iter().enumerate() {
            match self.subsets.iter().position(|earlier| earlier.name == subset.name) {
                Some(earlier) => {
                    let what = format!("subset `{}`", subset.name);
                    findings.push(lost(rule, &subsets.index(index), &what, self.subset_of[earlier]));
                }
                None => {
                    self.subsets.push(subset);
                    self.subset_of.push(rule);
                }
            }
        }
    }
}

fn lost(
    rule: &Object<DestinationRule>,
    at: &Path<'_>,
    what: &str,
    owner: &Object<DestinationRule>,
) -> Finding {
    let (id, place) = (&owner.meta.id, owner.meta.place());
    let why = owner.meta.comes_first(&rule.meta);
    let problem = Problem::new(format!("has no effect: {id} ({place}), {why}, has one for {what}"));
    let problem = problem.remedy("write one DestinationRule for a host");
    rule.meta.finding(Severity::Warning, Rule::Conflict, at, problem)
}
