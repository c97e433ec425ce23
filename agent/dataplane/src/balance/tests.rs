use snapshot::{Endpoint, HashKey, HashPolicy};

use super::*;

/// Active requests and shares by position.
struct Loads(Vec<(u32, f64)>);

impl Load for Loads {
    fn active(&self, position: usize) -> u32 {
        self.0[position].0
    }

    fn share(&self, position: usize) -> f64 {
        self.0[position].1
    }
}

fn cluster(weights: &[u32]) -> Vec<LocalityEndpoints> {
    let endpoint =
        |(n, weight): (u8, &u32)| Endpoint { weight: *weight, ..Endpoint::at(([10, 0, 0, n], 80)) };
    let endpoints: Vec<Endpoint> = (0..).zip(weights).map(endpoint).collect();
    vec![endpoints.into()]
}

fn picker(weights: &[u32], balancer: &LoadBalancer) -> Picker {
    Picker::new((&cluster(weights), balancer), |_| true, 0, None)
}

fn hits(picker: &Picker, loads: &Loads, hash: Option<u64>) -> Vec<u32> {
    let mut hits = vec![0; loads.0.len()];
    for step in 0..10_000 {
        hits[picker.pick(Choice { draw: mix(step), hash }, loads).unwrap()] += 1;
    }
    hits
}

fn idle(shares: &[f64]) -> Loads {
    Loads(shares.iter().map(|share| (0, *share)).collect())
}

const SLOW: SlowStart =
    SlowStart { window: Duration::from_secs(100), minimum_percent: 10.0, aggression: 1.0 };

#[test]
fn no_endpoint_is_picked_from_none_and_the_only_one_from_one() {
    for balancer in [LoadBalancer::default(), LoadBalancer::Random, LoadBalancer::RoundRobin(None)] {
        assert_eq!(picker(&[], &balancer).pick(Choice::default(), &idle(&[])), None);
        let busy = Loads(vec![(1000, 1.0)]);
        assert_eq!(picker(&[1], &balancer).pick(Choice { draw: 99, hash: None }, &busy), Some(0));
    }
}

#[test]
fn the_less_busy_of_two_is_picked() {
    let picker = picker(&[1, 1], &LoadBalancer::default());
    let loads = Loads(vec![(7, 1.0), (3, 1.0)]);
    for draw in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
        assert_eq!(picker.pick(Choice { draw, hash: None }, &loads), Some(1));
    }
}

#[test]
fn idle_endpoints_share_the_load() {
    for balancer in [LoadBalancer::default(), LoadBalancer::Random, LoadBalancer::RoundRobin(None)] {
        let hits = hits(&picker(&[1; 5], &balancer), &idle(&[1.0; 5]), None);
        assert!(hits.iter().all(|n| (1800..2200).contains(n)), "{balancer:?} {hits:?}");
    }
}

#[test]
fn weights_divide_the_load() {
    for balancer in [LoadBalancer::default(), LoadBalancer::RoundRobin(None)] {
        let hits = hits(&picker(&[1, 3], &balancer), &idle(&[1.0, 3.0]), None);
        assert!((2200..2800).contains(&hits[0]), "{balancer:?} {hits:?}");
    }
}

#[test]
fn a_heavy_endpoint_may_be_busier_than_a_light_one() {
    let picker = picker(&[1, 4], &LoadBalancer::default());
    let loads = Loads(vec![(2, 1.0), (4, 4.0)]);
    let hits = hits(&picker, &loads, None);
    assert!(hits[1] > 9000, "{hits:?}");
}

#[test]
fn new_endpoints_warm_up() {
    assert_eq!(warmth(Duration::ZERO, &SLOW), 0.1);
    assert_eq!(warmth(Duration::from_secs(50), &SLOW), 0.5);
    assert_eq!(warmth(Duration::from_secs(100), &SLOW), 1.0);
    let eager = SlowStart { aggression: 2.0, ..SLOW };
    assert!((warmth(Duration::from_secs(25), &eager) - 0.5).abs() < 1e-9);
    for balancer in [LoadBalancer::LeastRequest(Some(SLOW)), LoadBalancer::RoundRobin(Some(SLOW))] {
        let hits = hits(&picker(&[1, 1], &balancer), &idle(&[0.1, 1.0]), None);
        assert!((600..1300).contains(&hits[0]), "{balancer:?} {hits:?}");
    }
}

#[test]
fn equal_keys_meet_one_endpoint_and_requests_without_key_any() {
    for function in [HashFunction::Ring { minimum_size: 1024 }, HashFunction::Maglev { table_size: 65537 }] {
        let policy = HashPolicy { key: HashKey::SourceIp, function };
        let picker = picker(&[1; 4], &LoadBalancer::ConsistentHash(policy));
        let loads = idle(&[1.0; 4]);
        let with_key = hits(&picker, &loads, Some(hash_key(b"10.1.2.3")));
        assert_eq!(with_key.iter().filter(|n| **n > 0).count(), 1);
        assert!(hits(&picker, &loads, None).iter().all(|n| *n > 2000));
    }
}

#[test]
fn the_unhealthy_are_no_candidates() {
    let picker = Picker::new((&cluster(&[1, 1, 1]), &LoadBalancer::RoundRobin(None)), |n| n != 1, 0, None);
    assert_eq!(picker.candidates().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(hits(&picker, &idle(&[1.0; 3]), None)[1], 0);
}
