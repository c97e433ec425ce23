//! Which endpoints are asked first, by where they are (DestinationRule `localityLbSetting`).

use std::collections::BTreeMap;

use resources::{Failover, Labels, LocalityLb};
use snapshot::Locality;

use super::{Policy, zones::zoned};

/// An endpoint, or the name of some, with what its nearness is judged by.
#[derive(Clone, Debug)]
pub(crate) struct Near<'e, E> {
    pub(crate) endpoint: E,
    pub(crate) locality: Locality,
    pub(crate) labels: Option<&'e Labels>,
}

/// Endpoints of one priority and locality.
#[derive(Clone, Debug)]
pub(crate) struct Group<E> {
    pub(crate) locality: Locality,
    pub(crate) priority: u32,
    /// Share of the requests among the localities of one priority; `None` divides by endpoints.
    pub(crate) weight: Option<u32>,
    /// Sorted.
    pub(crate) endpoints: Vec<E>,
}

/// Who calls.
pub(crate) struct Caller<'c> {
    /// Where the proxy's workload runs, if that is known.
    pub(crate) locality: Option<&'c Locality>,
    pub(crate) labels: &'c Labels,
    /// Instances of the workload by zone, in its region.
    pub(crate) instances: &'c BTreeMap<String, u64>,
}

/// Endpoints by locality, with the priorities and weights that they have for a proxy at `own`.
///
/// As in Istio, `distribute` acts by itself, while preferring what is near needs outlier detection: only that tells
/// when the next priority is to take over. Without a locality of its own a proxy prefers none, and goes by
/// labels only.
pub(crate) fn arranged<E: Ord>(
    endpoints: Vec<Near<'_, E>>,
    policy: &Policy<'_>,
    caller: &Caller<'_>,
) -> Vec<Group<E>> {
    let balancer = policy.load_balancer;
    let of_mesh = || policy.mesh.and_then(|mesh| mesh.locality_lb.as_ref());
    let setting = balancer.and_then(|balancer| balancer.locality.as_ref()).or_else(of_mesh);
    let zones = balancer.and_then(|balancer| balancer.zone_aware.as_ref());
    let enabled = zones.and_then(|zones| zones.enabled).or(setting.and_then(|setting| setting.enabled));
    let own = caller.locality.filter(|_| enabled != Some(false));
    let by_label = setting.map(|setting| setting.failover_priority.as_slice()).unwrap_or_default();
    let Some(own) = own else {
        let is_on = enabled != Some(false) && zones.is_none() && policy.outlier_detection.is_some();
        // Labels are shared or not wherever the proxy is.
        let wanted = if is_on { by_label } else { &[] };
        return contiguous(grouped(endpoints, |near| unmatched(wanted, caller.labels, near.labels)));
    };
    if let Some(zones) = zones {
        return zoned(endpoints, zones, (own, caller));
    }
    if let Some(to) = setting.and_then(|setting| shares(setting, own)) {
        return distributed(grouped(endpoints, |_| 0), to);
    }
    if policy.outlier_detection.is_none() {
        return grouped(endpoints, |_| 0);
    }
    let failover = setting.map(|setting| setting.failover.as_slice()).unwrap_or_default();
    contiguous(grouped(endpoints, |near| match by_label {
        [] => distance(own, &near.locality, failover),
        by_label => unmatched(by_label, caller.labels, near.labels),
    }))
}

/// Groups of one priority and locality, nearest first.
pub(super) fn grouped<E: Ord>(
    endpoints: Vec<Near<'_, E>>,
    priority: impl Fn(&Near<'_, E>) -> u32,
) -> Vec<Group<E>> {
    let mut groups: BTreeMap<(u32, Locality), Vec<E>> = BTreeMap::new();
    for near in endpoints {
        groups.entry((priority(&near), near.locality)).or_default().push(near.endpoint);
    }
    let group = |((priority, locality), mut endpoints): ((u32, Locality), Vec<E>)| {
        endpoints.sort_unstable();
        endpoints.shrink_to_fit();
        Group { locality, priority, weight: None, endpoints }
    };
    groups.into_iter().map(group).collect()
}

/// Numbers the priorities from 0 without gaps.
pub(super) fn contiguous<E>(mut groups: Vec<Group<E>>) -> Vec<Group<E>> {
    let mut written: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    written.dedup();
    for group in &mut groups {
        let place = written.iter().position(|priority| *priority == group.priority).unwrap_or_default();
        group.priority = u32::try_from(place).unwrap_or(u32::MAX);
    }
    groups
}

/// How far away a locality is: the same subzone 0, zone 1, region 2, elsewhere 3; 4 when another region takes over.
pub(super) fn distance(own: &Locality, other: &Locality, failover: &[Failover]) -> u32 {
    if own.region != other.region {
        let taker = failover.iter().find(|failover| failover.from == own.region);
        return if taker.is_none_or(|taker| taker.to == other.region) { 3 } else { 4 };
    }
    match (own.zone == other.zone, own.sub_zone == other.sub_zone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// How many labels remain from the first one on that proxy and endpoint do not share.
pub(super) fn unmatched(wanted: &[String], own: &Labels, labels: Option<&Labels>) -> u32 {
    let shared = |wanted: &String| {
        let (name, value) = match wanted.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (wanted.as_str(), own.get(wanted).map(String::as_str)),
        };
        value == labels.and_then(|labels| labels.get(name)).map(String::as_str)
    };
    let matched = wanted.iter().take_while(|wanted| shared(wanted)).count();
    u32::try_from(wanted.len() - matched).unwrap_or(u32::MAX)
}

/// The shares that calls from a locality are divided by.
fn shares<'s>(setting: &'s LocalityLb, own: &Locality) -> Option<&'s BTreeMap<String, u32>> {
    let rule = setting.distribute.iter().find(|distribute| covers(&distribute.from, own));
    rule.map(|rule| &rule.to)
}

/// Gives each group its share; groups that no share is written for get nothing and go.
///
/// A share whose pattern covers several groups is divided among them.
fn distributed<E>(mut groups: Vec<Group<E>>, to: &BTreeMap<String, u32>) -> Vec<Group<E>> {
    // The narrower patterns choose first.
    let mut patterns: Vec<(&String, &u32)> = to.iter().collect();
    patterns.sort_by_key(|(pattern, _)| (pattern.contains('*'), usize::MAX - pattern.matches('/').count()));
    for (pattern, share) in patterns {
        let mut covered: Vec<_> =
            groups.iter_mut().filter(|g| g.weight.is_none() && covers(pattern, &g.locality)).collect();
        let number = u32::try_from(covered.len()).unwrap_or(u32::MAX).max(1);
        covered.iter_mut().for_each(|group| group.weight = Some(share.div_ceil(number)));
    }
    groups.retain(|group| group.weight.is_some());
    groups
}

/// Whether `region/zone/subzone`, which may end early or with `*`, covers a locality.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let parts = [&locality.region, &locality.zone, &locality.sub_zone];
    pattern.split('/').zip(parts).all(|(wanted, part)| wanted == "*" || wanted == part)
}

#[cfg(test)]
mod tests {
    use resources::{Distribute, LoadBalancer, OutlierDetection};

    use super::*;

    fn near(locality: &str) -> Near<'static, u8> {
        Near { endpoint: 1, locality: Locality::of_path(locality), labels: None }
    }

    /// Priority, locality and weight of each group, for a proxy at `r/a/1`.
    fn shown(setting: Option<LocalityLb>, with_detection: bool, localities: &[&str]) -> Vec<String> {
        let balancer =
            setting.map(|locality| LoadBalancer { locality: Some(locality), ..LoadBalancer::default() });
        let detection = OutlierDetection::default();
        let policy = Policy {
            load_balancer: balancer.as_ref(),
            outlier_detection: with_detection.then_some(&detection),
            ..Policy::default()
        };
        let endpoints = localities.iter().map(|locality| near(locality)).collect();
        let own = Locality::of_path("r/a/1");
        let (labels, instances) = (Labels::new(), BTreeMap::new());
        let caller = Caller { locality: Some(&own), labels: &labels, instances: &instances };
        let groups = arranged(endpoints, &policy, &caller);
        let text = |g: &Group<u8>| {
            let Locality { region, zone, sub_zone } = &g.locality;
            format!("{} {region}/{zone}/{sub_zone} {:?}", g.priority, g.weight)
        };
        groups.iter().map(text).collect()
    }

    const ALL: [&str; 5] = ["s/x/1", "r/a/1", "r/a/2", "r/b/1", "t/x/1"];

    #[test]
    fn what_is_near_comes_first_when_errors_are_noticed() {
        assert_eq!(
            shown(None, true, &ALL),
            ["0 r/a/1 None", "1 r/a/2 None", "2 r/b/1 None", "3 s/x/1 None", "3 t/x/1 None"]
        );
        assert!(shown(None, false, &ALL).iter().all(|group| group.starts_with("0 ")));
        assert_eq!(shown(None, true, &["s/x/1", "r/b/1"]), ["0 r/b/1 None", "1 s/x/1 None"]);
        let off = LocalityLb { enabled: Some(false), ..LocalityLb::default() };
        assert!(shown(Some(off), true, &ALL).iter().all(|group| group.starts_with("0 ")));
    }

    #[test]
    fn a_region_may_take_over_from_another() {
        let failover = vec![Failover { from: "r".to_owned(), to: "t".to_owned() }];
        let setting = LocalityLb { failover, ..LocalityLb::default() };
        assert_eq!(shown(Some(setting), true, &["s/x/1", "t/x/1"]), ["0 t/x/1 None", "1 s/x/1 None"]);
    }

    #[test]
    fn fixed_shares_need_no_errors() {
        let to = BTreeMap::from([("r/a/*".to_owned(), 80), ("t/x/1".to_owned(), 20)]);
        let distribute = vec![Distribute { from: "r/a/*".to_owned(), to }];
        let setting = LocalityLb { distribute, ..LocalityLb::default() };
        assert_eq!(
            shown(Some(setting), false, &ALL),
            ["0 r/a/1 Some(40)", "0 r/a/2 Some(40)", "0 t/x/1 Some(20)"]
        );
    }

    #[test]
    fn labels_may_tell_what_is_near() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let wanted = ["rack".to_owned(), "disk=fast".to_owned()];
        let own = labels(&[("rack", "1")]);
        for (endpoint, expected) in [
            (labels(&[("rack", "1"), ("disk", "fast")]), 0),
            (labels(&[("rack", "1")]), 1),
            (labels(&[("rack", "2"), ("disk", "fast")]), 2),
        ] {
            assert_eq!(unmatched(&wanted, &own, Some(&endpoint)), expected, "{endpoint:?}");
        }
        assert_eq!(unmatched(&wanted, &own, None), 2);
    }
}
