//! Calls that stay in their zone as far as its endpoints can take them (DestinationRule `zoneAwareLbSetting`).
//!
//! As in Envoy's zone aware routing, a zone takes in what its endpoints are of all endpoints, and sends what its callers
//! are of all callers. One that takes in less than it sends passes the rest on to those that take in more. Here it is
//! worked out when endpoints or callers change; the data plane shrinks the shares of places as endpoints fail.

use std::collections::BTreeMap;

use resources::ZoneAwareLb;
use snapshot::Locality;

use super::locality::{Caller, Group, Near, contiguous, distance, grouped, unmatched};

/// Endpoints by locality: those of the caller's region first, and among them its zone.
pub(super) fn zoned<E: Ord>(
    endpoints: Vec<Near<'_, E>>,
    setting: &ZoneAwareLb,
    (own, caller): (&Locality, &Caller<'_>),
) -> Vec<Group<E>> {
    let mut groups = grouped(endpoints, |near| {
        let region = distance(own, &near.locality, &setting.failover).saturating_sub(SAME_REGION);
        let labels = match setting.failover_priority.as_slice() {
            [] => 0,
            by_label => unmatched(by_label, caller.labels, near.labels),
        };
        // Every other number is for zones that get nothing as long as their neighbours can take everything.
        2 * (region * MOST_LABELS + labels.min(MOST_LABELS - 1))
    });
    if let Some(shares) = shares(&groups, setting, (own, caller.instances)) {
        for group in groups.iter_mut().filter(|group| group.priority == 0) {
            match shares.get(&group.locality.zone) {
                Some(share) => group.weight = Some(share.of(group)),
                None => group.priority = 1,
            }
        }
        groups.sort_by(|a, b| (a.priority, &a.locality).cmp(&(b.priority, &b.locality)));
    }
    contiguous(groups)
}

/// The distance of another zone in the same region.
const SAME_REGION: u32 = 2;
/// More than anybody writes.
const MOST_LABELS: u32 = 1 << 16;
/// Endpoints below which zones do not count (Envoy's `min_cluster_size`).
const MIN_CLUSTER_SIZE: u32 = 6;
/// The whole, in parts that shares are counted in.
const WHOLE: u64 = 10_000;

/// What a zone gets, and among how many endpoints.
#[derive(Clone, Copy)]
struct Share {
    parts: u64,
    endpoints: u64,
}

impl Share {
    /// What a part of the zone gets, by its endpoints.
    fn of<E>(self, group: &Group<E>) -> u32 {
        let weight = self.parts * group.endpoints.len() as u64 / self.endpoints.max(1);
        u32::try_from(weight).unwrap_or(u32::MAX).max(1)
    }
}

/// The share of each zone that gets anything; `None` where all endpoints of the region are alike.
fn shares<E>(
    groups: &[Group<E>],
    setting: &ZoneAwareLb,
    (own, callers): (&Locality, &BTreeMap<String, u64>),
) -> Option<BTreeMap<String, Share>> {
    let mut endpoints: BTreeMap<&str, u64> = BTreeMap::new();
    for group in groups.iter().filter(|g| g.priority == 0 && g.locality.region == own.region) {
        *endpoints.entry(&group.locality.zone).or_default() += group.endpoints.len() as u64;
    }
    let (all, all_callers) = (endpoints.values().sum::<u64>(), callers.values().sum::<u64>());
    let is_large = all >= u64::from(setting.min_cluster_size.unwrap_or(MIN_CLUSTER_SIZE));
    let (here, callers_here) = (*endpoints.get(own.zone.as_str())?, *callers.get(&own.zone)?);
    if !is_large || endpoints.len() < 2 || callers_here == 0 {
        return None;
    }
    let takes = |zone: &str| endpoints[zone] * WHOLE / all;
    let sends = |zone: &str| callers.get(zone).copied().unwrap_or_default() * WHOLE / all_callers;
    let own_parts = (takes(&own.zone) * WHOLE / sends(&own.zone).max(1)).min(WHOLE);
    let spare = |zone: &str| takes(zone).saturating_sub(sends(zone));
    let all_spare = endpoints.keys().map(|zone| spare(zone)).sum::<u64>();
    let mut shares = BTreeMap::from([(own.zone.clone(), Share { parts: own_parts, endpoints: here })]);
    if own_parts < WHOLE {
        for (zone, endpoints) in endpoints.iter().filter(|(zone, _)| **zone != own.zone) {
            let parts = ((WHOLE - own_parts) * spare(zone)).checked_div(all_spare).unwrap_or_default();
            if parts > 0 {
                shares.insert((*zone).to_owned(), Share { parts, endpoints: *endpoints });
            }
        }
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use resources::{Failover, Labels};

    use super::*;

    /// Priority, zone and weight of each group for a caller in `r/a`, with so many endpoints and callers by place.
    fn shown(setting: &ZoneAwareLb, endpoints: &[(&str, usize)], callers: &[(&str, u64)]) -> Vec<String> {
        let near = |(place, number): &(&str, usize)| {
            let locality = Locality::of_path(place);
            (0..*number).map(move |endpoint| Near { endpoint, locality: locality.clone(), labels: None })
        };
        let endpoints = endpoints.iter().flat_map(near).collect::<Vec<_>>();
        let instances = callers.iter().map(|(zone, number)| ((*zone).to_owned(), *number)).collect();
        let (own, labels) = (Locality::of_path("r/a/1"), Labels::new());
        let caller = Caller { locality: Some(&own), labels: &labels, instances: &instances };
        let text = |group: &Group<usize>| {
            let Locality { region, zone, sub_zone } = &group.locality;
            format!("{} {region}/{zone}/{sub_zone} {:?}", group.priority, group.weight)
        };
        zoned(endpoints, setting, (&own, &caller)).iter().map(text).collect()
    }

    #[test]
    fn a_zone_that_can_take_everything_does_and_the_others_stand_in() {
        let found = shown(
            &ZoneAwareLb::default(),
            &[("r/a/1", 2), ("r/a/2", 1), ("r/b/1", 3), ("s/x/1", 9)],
            &[("a", 1), ("b", 1)],
        );
        assert_eq!(found, ["0 r/a/1 Some(6666)", "0 r/a/2 Some(3333)", "1 r/b/1 None", "2 s/x/1 None"]);
    }

    #[test]
    fn what_a_zone_cannot_take_goes_where_there_is_room() {
        // A quarter of the endpoints for half of the callers: half of the calls stay, and `c` has the room.
        let found = shown(
            &ZoneAwareLb::default(),
            &[("r/a/1", 2), ("r/b/1", 4), ("r/c/1", 2)],
            &[("a", 2), ("b", 2)],
        );
        assert_eq!(found, ["0 r/a/1 Some(5000)", "0 r/c/1 Some(5000)", "1 r/b/1 None"]);
    }

    #[test]
    fn zones_do_not_count_among_few_endpoints_or_unknown_callers() {
        let few = [("r/a/1", 1), ("r/b/1", 4), ("s/x/1", 9)];
        let alike = ["0 r/a/1 None", "0 r/b/1 None", "1 s/x/1 None"];
        assert_eq!(shown(&ZoneAwareLb::default(), &few, &[("a", 1)]), alike);
        let from_two = ZoneAwareLb { min_cluster_size: Some(2), ..ZoneAwareLb::default() };
        assert_eq!(shown(&from_two, &few, &[("a", 1)]).len(), 3);
        assert_ne!(shown(&from_two, &few, &[("a", 1)]), alike);
        assert_eq!(shown(&from_two, &few, &[]), alike, "callers");
        assert_eq!(shown(&from_two, &few[1..], &[("a", 1)]), alike[1..].to_vec(), "no endpoint in the zone");
    }

    #[test]
    fn regions_stand_in_for_each_other_as_written() {
        let failover = vec![Failover { from: "r".to_owned(), to: "t".to_owned() }];
        let setting = ZoneAwareLb { failover, ..ZoneAwareLb::default() };
        let found = shown(&setting, &[("s/x/1", 1), ("t/x/1", 1), ("r/a/1", 1)], &[("a", 1)]);
        assert_eq!(found, ["0 r/a/1 None", "1 t/x/1 None", "2 s/x/1 None"]);
    }
}
