//! Which endpoints may be picked now and how the requests are divided among priorities and localities: from what the
//! snapshot says and who is healthy. Pure, and worked out anew only when either changes.

use super::LocalityEndpoints;

/// Endpoints by priority and locality, with the share of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointPlan {
    /// Priorities that get anything, with their share of the requests.
    pub levels: Vec<EndpointLevel>,
}

/// What one priority has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointLevel {
    /// The priority it is for.
    pub priority: u32,
    /// Its part of the sum of all shares.
    pub share: u64,
    /// Localities, or one group for all of them when none has a weight.
    pub groups: Vec<EndpointGroup>,
}

/// Endpoints among which only the load balancer decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointGroup {
    /// Its part of the sum of the shares of its level.
    pub share: u64,
    /// Positions of endpoints in the cluster's list.
    pub members: Vec<u32>,
}

impl EndpointPlan {
    /// The plan for a cluster; `usable` tells which positions in its list of endpoints are healthy.
    ///
    /// As Envoy does it: a priority is enough for everything while its healthy share times 1.4 is the whole, and
    /// passes on to the next what it is not enough for; a locality's weight shrinks in the same way. Below
    /// `min_health_percent` healthy endpoints a priority uses all it has; 0 never does.
    pub fn new(
        localities: &[LocalityEndpoints],
        usable: impl Fn(usize) -> bool,
        min_health_percent: u32,
    ) -> Self {
        let places = places(localities, usable);
        let mut priorities: Vec<u32> = places.iter().map(|place| place.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let levels: Vec<Vec<&Place>> = priorities
            .iter()
            .map(|priority| places.iter().filter(|place| place.priority == *priority).collect())
            .collect();
        let counts: Vec<(u64, u64)> = levels.iter().map(|level| count(level)).collect();
        let loads = loads(&counts, u64::from(min_health_percent));
        let levels = levels.iter().zip(loads).filter(|(_, load)| load.share > 0);
        Self { levels: levels.map(|(level, load)| EndpointLevel::new(level, load)).collect() }
    }

    /// The group to pick from; `draw` is a uniformly random number, or the hash of a key.
    pub fn group(&self, draw: u64) -> Option<(usize, usize)> {
        let level = self.level(draw)?;
        let groups = &self.levels[level].groups;
        if groups.len() == 1 {
            return Some((level, 0));
        }
        Some((level, chosen(groups.iter().map(|group| group.share), draw.rotate_right(7))?))
    }

    /// The priority to pick from.
    pub fn level(&self, draw: u64) -> Option<usize> {
        match self.levels.len() {
            0 => None,
            1 => Some(0),
            _ => chosen(self.levels.iter().map(|level| level.share), draw.rotate_left(13)),
        }
    }

    /// All endpoints that may be picked.
    pub fn members(&self) -> impl Iterator<Item = u32> {
        let groups = self.levels.iter().flat_map(|level| &level.groups);
        groups.flat_map(|group| group.members.iter().copied())
    }
}

/// The position whose share covers the draw.
fn chosen(shares: impl Iterator<Item = u64> + Clone, draw: u64) -> Option<usize> {
    let total: u64 = shares.clone().sum();
    let mut left = draw.checked_rem(total)?;
    for (position, share) in shares.enumerate() {
        match left.checked_sub(share) {
            Some(rest) => left = rest,
            None => return Some(position),
        }
    }
    None
}

/// One locality of the cluster.
struct Place {
    priority: u32,
    weight: Option<u32>,
    all: Vec<u32>,
    healthy: Vec<u32>,
}

fn places(localities: &[LocalityEndpoints], usable: impl Fn(usize) -> bool) -> Vec<Place> {
    let mut positions = 0_u32..;
    let place = |locality: &LocalityEndpoints| {
        let all: Vec<u32> = positions.by_ref().take(locality.endpoints.len()).collect();
        let healthy = all.iter().copied().filter(|position| usable(*position as usize)).collect();
        Place { priority: locality.priority, weight: locality.weight, all, healthy }
    };
    localities.iter().map(place).collect()
}

/// Healthy endpoints and all of them.
fn count(level: &[&Place]) -> (u64, u64) {
    let sum = |of: fn(&Place) -> usize| level.iter().map(|place| of(place) as u64).sum();
    (sum(|place| place.healthy.len()), sum(|place| place.all.len()))
}

#[derive(Clone, Copy)]
struct Load {
    share: u64,
    /// Whether unhealthy endpoints are used, too.
    panic: bool,
}

/// Percent of what is there that is healthy, with some to spare (Envoy's overprovisioning factor of 1.4).
fn availability(healthy: u64, all: u64) -> u64 {
    (140 * healthy).checked_div(all).unwrap_or(0).min(100)
}

/// Divides the requests among the priorities, given the healthy endpoints and all of them for each.
fn loads(counts: &[(u64, u64)], min_health_percent: u64) -> Vec<Load> {
    let availabilities = counts.iter().map(|(healthy, all)| availability(*healthy, *all));
    let total: u64 = availabilities.clone().sum();
    let panics = |(healthy, all): (u64, u64)| total < 100 && healthy * 100 < all * min_health_percent;
    if total == 0 {
        // Nobody is healthy: those that panic share by their size.
        let load = |&count: &(u64, u64)| {
            let panic = panics(count);
            Load { share: if panic { count.1 } else { 0 }, panic }
        };
        return counts.iter().map(load).collect();
    }
    let mut left = total.min(100);
    let load = |(available, &count): (u64, &(u64, u64))| {
        let share = available.min(left);
        left -= share;
        Load { share, panic: panics(count) }
    };
    availabilities.zip(counts).map(load).collect()
}

impl EndpointLevel {
    fn new(places: &[&Place], load: Load) -> Self {
        let members = |place: &Place| if load.panic { place.all.clone() } else { place.healthy.clone() };
        let weighted = places.iter().any(|place| place.weight.is_some());
        let groups = if weighted {
            let group =
                |place: &&Place| EndpointGroup { share: place.share(load.panic), members: members(place) };
            places.iter().map(group).filter(|group| group.share > 0 && !group.members.is_empty()).collect()
        } else {
            let members = places.iter().flat_map(|place| members(place)).collect();
            vec![EndpointGroup { share: 1, members }]
        };
        let priority = places.first().map_or(0, |place| place.priority);
        Self { priority, share: load.share, groups }
    }
}

impl Place {
    fn share(&self, panic: bool) -> u64 {
        let available =
            if panic { 100 } else { availability(self.healthy.len() as u64, self.all.len() as u64) };
        u64::from(self.weight.unwrap_or(0)) * available
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn locality(priority: u32, weight: Option<u32>, endpoints: u8) -> LocalityEndpoints {
        let endpoint = |n| Endpoint::at(([10, u8::try_from(priority).unwrap(), 0, n], 80));
        let endpoints = (0..endpoints).map(endpoint).collect();
        LocalityEndpoints { priority, weight, endpoints, ..LocalityEndpoints::default() }
    }

    /// Share of each priority and its members.
    fn levels(plan: &EndpointPlan) -> Vec<(u64, Vec<u32>)> {
        let members =
            |level: &EndpointLevel| level.groups.iter().flat_map(|group| group.members.clone()).collect();
        plan.levels.iter().map(|level| (level.share, members(level))).collect()
    }

    #[test]
    fn everything_goes_to_the_first_priority_while_it_is_healthy_enough() {
        let localities = [locality(0, None, 10), locality(1, None, 2)];
        let plan = EndpointPlan::new(&localities, |n| n >= 2, 0);
        assert_eq!(levels(&plan), [(100, (2..10).collect())]);
    }

    #[test]
    fn what_a_priority_is_not_enough_for_goes_to_the_next() {
        let localities = [locality(0, None, 4), locality(1, None, 2)];
        let plan = EndpointPlan::new(&localities, |n| n == 0 || n > 3, 0);
        assert_eq!(levels(&plan), [(35, vec![0]), (65, vec![4, 5])]);
        let gone = EndpointPlan::new(&localities, |n| n > 3, 0);
        assert_eq!(levels(&gone), [(100, vec![4, 5])]);
    }

    #[test]
    fn all_priorities_together_may_be_too_few_and_still_divide_everything() {
        let localities = [locality(0, None, 10), locality(1, None, 10)];
        let plan = EndpointPlan::new(&localities, |n| n == 0 || n == 10, 0);
        assert_eq!(levels(&plan), [(14, vec![0]), (14, vec![10])]);
        assert_eq!(plan.level(0), Some(0));
    }

    #[test]
    fn nobody_healthy_means_nobody_is_picked_unless_panic_is_allowed() {
        let localities = [locality(0, None, 2)];
        assert_eq!(EndpointPlan::new(&localities, |_| false, 0).group(7), None);
        assert_eq!(levels(&EndpointPlan::new(&localities, |_| false, 50)), [(2, vec![0, 1])]);
        assert_eq!(
            levels(&EndpointPlan::new(&[locality(0, None, 4)], |n| n == 0, 50)),
            [(35, vec![0, 1, 2, 3])]
        );
    }

    #[test]
    fn localities_share_by_weight_and_lose_with_their_health() {
        let localities = [locality(0, Some(80), 2), locality(0, Some(20), 2), locality(0, None, 2)];
        let plan = EndpointPlan::new(&localities, |n| n != 0, 0);
        let groups: Vec<_> = plan.levels[0].groups.iter().map(|g| (g.share, g.members.clone())).collect();
        assert_eq!(groups, [(80 * 70, vec![1]), (20 * 100, vec![2, 3])]);
        let mut hits = [0; 2];
        for step in 0..10_000_u64 {
            let (_, group) = plan.group(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
            hits[group] += 1;
        }
        assert!((7000..7700).contains(&hits[0]), "{hits:?}");
    }

    #[test]
    fn an_empty_cluster_has_an_empty_plan() {
        assert_eq!(EndpointPlan::new(&[], |_| true, 0).group(0), None);
        assert_eq!(EndpointPlan::new(&[locality(0, None, 0)], |_| true, 0).group(0), None);
    }
}
