//! Picks an endpoint of a cluster (DestinationRule `loadBalancer`). Pure: how busy endpoints are, the time and random
//! numbers are given.

mod alias;
mod hash;
mod hashed;
mod round_robin;

use std::{cell::RefCell, time::Duration};

use snapshot::{
    EndpointGroup, EndpointLevel, EndpointPlan, HashFunction, LoadBalancer, LocalityEndpoints, SlowStart,
};

pub(crate) use self::hash::{hash_address, hash_key};
use self::{alias::AliasTable, hash::Member, hashed::Hashed, round_robin::RoundRobin};

/// What is asked about an endpoint while picking.
pub(crate) trait Load {
    /// Requests it is serving for this worker.
    fn active(&self, position: usize) -> u32;

    /// Its share relative to the others: its weight, less while it is warming up.
    fn share(&self, position: usize) -> f64;
}

/// The endpoints of a cluster that may be picked now, and whose turn it is.
pub(crate) struct Picker {
    plan: EndpointPlan,
    policy: Policy,
    /// Whether all shares are equal, so that they need not be asked for.
    uniform: bool,
}

enum Policy {
    /// By level and group of the plan; none where all weights are equal.
    LeastRequest(Vec<Vec<AliasTable>>),
    /// By level and group of the plan.
    RoundRobin(Vec<Vec<RefCell<RoundRobin>>>),
    Random,
    /// By level of the plan.
    Hash(Vec<Hashed>),
}

impl Default for Picker {
    /// One that has nobody.
    fn default() -> Self {
        Self { plan: EndpointPlan::default(), policy: Policy::Random, uniform: true }
    }
}

/// What decides a pick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choice {
    /// A uniformly random number.
    pub(crate) draw: u64,
    /// Hash of the request's key, if it has one.
    pub(crate) hash: Option<u64>,
}

impl Picker {
    /// The picker for a cluster; `usable` tells which positions in its list of endpoints are healthy. Hash tables of the
    /// one `before` it go on where they fit.
    pub(crate) fn new(
        (localities, balancer): (&[LocalityEndpoints], &LoadBalancer),
        usable: impl Fn(usize) -> bool,
        min_health_percent: u32,
        before: Option<&Self>,
    ) -> Self {
        let plan = EndpointPlan::new(localities, usable, min_health_percent);
        let endpoints = || localities.iter().flat_map(|locality| &locality.endpoints);
        let mut weights = endpoints().map(|endpoint| endpoint.weight);
        let first = weights.next();
        let uniform = weights.all(|weight| Some(weight) == first) && slow_start(balancer).is_none();
        let policy = match balancer {
            LoadBalancer::LeastRequest(_) => {
                Policy::LeastRequest(if uniform { Vec::new() } else { by_weight(&plan, localities) })
            }
            LoadBalancer::RoundRobin(_) => Policy::RoundRobin(round_robin(&plan)),
            LoadBalancer::Random => Policy::Random,
            LoadBalancer::ConsistentHash(policy) => {
                Policy::Hash(hashed((&plan, localities), policy.function, before))
            }
        };
        Self { plan, policy, uniform }
    }

    /// The position of the endpoint to use, or `None` when there is none.
    pub(crate) fn pick(&self, choice: Choice, load: &(impl Load + ?Sized)) -> Option<usize> {
        if let (Policy::Hash(levels), Some(hash)) = (&self.policy, choice.hash) {
            return levels[self.plan.level(hash)?].pick(hash);
        }
        self.pick_by_load(choice, load)
    }

    /// The same of a picker for one request, which no hash table is made for.
    pub(crate) fn pick_once(&self, choice: Choice, load: &(impl Load + ?Sized)) -> Option<usize> {
        if let (Policy::Hash(levels), Some(hash)) = (&self.policy, choice.hash) {
            return levels[self.plan.level(hash)?].pick_untabled(hash);
        }
        self.pick_by_load(choice, load)
    }

    fn pick_by_load(&self, choice: Choice, load: &(impl Load + ?Sized)) -> Option<usize> {
        let (level, group) = self.plan.group(choice.draw)?;
        let members = &self.plan.levels[level].groups[group].members;
        let index = match &self.policy {
            Policy::RoundRobin(round_robin) => {
                let share = |index: usize| load.share(members[index] as usize);
                round_robin[level][group].borrow_mut().next(self.uniform, choice.draw, share)
            }
            Policy::LeastRequest(_) if self.uniform || members.len() < 2 => {
                let active = |index: usize| f64::from(load.active(members[index] as usize));
                least_busy(members.len(), active, choice.draw)
            }
            Policy::LeastRequest(tables) => less_busy(members, &tables[level][group], choice.draw, load),
            Policy::Random | Policy::Hash(..) => (choice.draw >> 16) as usize % members.len().max(1),
        };
        members.get(index).map(|position| *position as usize)
    }

    /// All that may be picked, for those who have tried the one picked.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = usize> {
        self.plan.members().map(|position| position as usize)
    }
}

/// The less busy of two drawn at random (power of two choices), each drawn by its share.
fn less_busy(members: &[u32], table: &AliasTable, draw: u64, load: &(impl Load + ?Sized)) -> usize {
    let share = |index: usize| load.share(members[index] as usize).max(f64::MIN_POSITIVE);
    let (first, second) = (drawn_by_share(table, share, draw), drawn_by_share(table, share, !draw));
    let busy = |index: usize| f64::from(load.active(members[index] as usize)) / share(index);
    if busy(second) < busy(first) { second } else { first }
}

/// The setting for new endpoints, if there is one.
pub(crate) fn slow_start(balancer: &LoadBalancer) -> Option<&SlowStart> {
    match balancer {
        LoadBalancer::LeastRequest(slow_start) | LoadBalancer::RoundRobin(slow_start) => slow_start.as_ref(),
        LoadBalancer::Random | LoadBalancer::ConsistentHash(_) => None,
    }
}

/// The part of its share, 0–1, that an endpoint of this age gets (Envoy's slow start).
pub(crate) fn warmth(age: Duration, setting: &SlowStart) -> f64 {
    if age >= setting.window {
        return 1.0;
    }
    let time = age.as_secs_f64().max(1.0) / setting.window.as_secs_f64();
    let warmth = time.min(1.0).powf(setting.aggression.recip());
    warmth.max(setting.minimum_percent / 100.0)
}

fn by_weight(plan: &EndpointPlan, localities: &[LocalityEndpoints]) -> Vec<Vec<AliasTable>> {
    let endpoints = localities.iter().flat_map(|locality| &locality.endpoints);
    let weights: Vec<u32> = endpoints.map(|endpoint| endpoint.weight).collect();
    let table = |group: &EndpointGroup| {
        AliasTable::new(group.members.iter().map(|position| weights[*position as usize]))
    };
    plan.levels.iter().map(|level| level.groups.iter().map(table).collect()).collect()
}

fn round_robin(plan: &EndpointPlan) -> Vec<Vec<RefCell<RoundRobin>>> {
    let round_robin = |group: &EndpointGroup| RefCell::new(RoundRobin::new(group.members.len()));
    plan.levels.iter().map(|level| level.groups.iter().map(round_robin).collect()).collect()
}

fn hashed(
    (plan, localities): (&EndpointPlan, &[LocalityEndpoints]),
    function: HashFunction,
    before: Option<&Picker>,
) -> Vec<Hashed> {
    let endpoints: Vec<Member> = localities
        .iter()
        .flat_map(|locality| {
            let weight = u64::from(locality.weight.unwrap_or(1).max(1));
            locality.endpoints.iter().map(move |endpoint| Member {
                address: endpoint.address.clone(),
                weight: weight * u64::from(endpoint.weight.max(1)),
            })
        })
        .collect();
    let old = before.map_or(&[][..], |before| match &before.policy {
        Policy::Hash(levels) => levels,
        _ => &[],
    });
    let level = |level: &EndpointLevel| {
        let positions = level.groups.iter().flat_map(|group| &group.members);
        let members = positions.map(|position| (*position, endpoints[*position as usize].clone()));
        let old = old.iter().find(|old| old.priority == level.priority);
        Hashed::new(level.priority, function, members, old)
    };
    plan.levels.iter().map(level).collect()
}

fn least_busy(endpoints: usize, active: impl Fn(usize) -> f64, draw: u64) -> usize {
    if endpoints < 2 {
        return 0;
    }
    let first = (draw >> 32) as usize % endpoints;
    // Drawn among the others, so that two different endpoints are compared.
    let second = (first + 1 + (draw & 0xffff_ffff) as usize % (endpoints - 1)) % endpoints;
    if active(second) < active(first) { second } else { first }
}

/// Draws by weight until one is taken with the probability that its share is of its weight: less than the whole while it
/// is warming up.
fn drawn_by_share(table: &AliasTable, share: impl Fn(usize) -> f64, mut draw: u64) -> usize {
    let mut drawn = 0;
    for _ in 0..32 {
        draw = mix(draw);
        drawn = table.draw(draw);
        let chance = f64::from((mix(!draw) >> 32) as u32) / f64::from(u32::MAX);
        if chance * table.weight(drawn) <= share(drawn) {
            break;
        }
    }
    drawn
}

/// Another number as random as the one given (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
