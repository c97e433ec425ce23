//! When which name is asked for, and what it was resolved to last. Pure: time is given.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;

use snapshot::DnsResolution;

use super::Names;

use crate::bounds;

/// The names and what is known of them.
#[derive(Default)]
pub(super) struct Schedule(HashMap<Box<str>, State, FixedState>);

struct State {
    purpose: DnsResolution,
    due: Instant,
    asking: bool,
    /// Failures since the last answer.
    failures: u32,
    /// The last good answer; empty when there was none; `None` before the first attempt has ended.
    addresses: Option<Arc<[IpAddr]>>,
}

/// What an answer has brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct News {
    /// Whether something has changed.
    pub(super) changed: bool,
    /// Whether the attempt before had failed.
    pub(super) failed_before: bool,
    /// Whether there are addresses to go on with.
    pub(super) has_addresses: bool,
}

/// A name that was never resolved is asked for again sooner, twice as late each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How long an answer is used.
pub(super) fn lifetime(ttl: Duration) -> Duration {
    if ttl.is_zero() { bounds::USUAL_TTL } else { ttl.clamp(bounds::SHORTEST_TTL, bounds::LONGEST_TTL) }
}

impl Schedule {
    /// These names and no others from now on.
    pub(super) fn want(&mut self, names: &Names, now: Instant) {
        self.0.retain(|name, _| names.contains_key(name));
        for (name, purpose) in names {
            let new = State { purpose: *purpose, due: now, asking: false, failures: 0, addresses: None };
            self.0.entry(name.clone()).or_insert(new).purpose = *purpose;
        }
    }

    /// Whether the name is wanted still.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Names to be asked for now, `room` at most.
    pub(super) fn due(&mut self, now: Instant, room: usize) -> Vec<Box<str>> {
        let due = self.0.iter_mut().filter(|(_, state)| !state.asking && state.due <= now);
        due.take(room)
            .map(|(name, state)| {
                state.asking = true;
                name.clone()
            })
            .collect()
    }

    /// When a name is due next, if it is not being asked for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().filter(|state| !state.asking).map(|state| state.due).min()
    }

    /// Takes an answer with its time to live, or `None` for a failure.
    pub(super) fn answered(
        &mut self,
        name: &str,
        answer: Option<(Vec<IpAddr>, Duration)>,
        now: Instant,
    ) -> News {
        // Nobody wants it any more.
        let Some(state) = self.0.get_mut(name) else { return News::default() };
        state.asking = false;
        let failed_before = state.failures > 0;
        let changed = match answer {
            Some((addresses, ttl)) => state.take(addresses, ttl, now),
            None => state.fail(now),
        };
        News { changed, failed_before, has_addresses: state.has_addresses() }
    }

    /// What is known of the names that were asked for.
    pub(super) fn resolutions(&self) -> HashMap<Box<str>, Arc<[IpAddr]>, FixedState> {
        let known = self.0.iter().filter_map(|(name, state)| Some((name.clone(), state.addresses.clone()?)));
        known.collect()
    }
}

impl State {
    fn take(&mut self, mut addresses: Vec<IpAddr>, ttl: Duration, now: Instant) -> bool {
        self.failures = 0;
        self.due = now + lifetime(ttl);
        // Servers rotate their answers: that is a change only for who uses the first.
        let free = match self.purpose {
            DnsResolution::Strict => addresses.as_mut_slice(),
            DnsResolution::Logical => addresses.get_mut(1..).unwrap_or_default(),
        };
        free.sort_unstable();
        addresses.dedup();
        let changed = self.addresses.as_deref() != Some(addresses.as_slice());
        if changed {
            self.addresses = Some(addresses.into());
        }
        changed
    }

    fn fail(&mut self, now: Instant) -> bool {
        self.due = now + self.after_failure();
        self.failures = self.failures.saturating_add(1);
        let first = self.addresses.is_none();
        self.addresses.get_or_insert_default();
        first
    }

    fn has_addresses(&self) -> bool {
        self.addresses.as_ref().is_some_and(|addresses| !addresses.is_empty())
    }

    fn after_failure(&self) -> Duration {
        if self.has_addresses() {
            bounds::USUAL_TTL
        } else {
            (FIRST_RETRY * 2_u32.pow(self.failures.min(6))).min(bounds::USUAL_TTL)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| ((*name).into(), DnsResolution::Strict)).collect()
    }

    fn answer(address: &str, seconds: u64) -> Option<(Vec<IpAddr>, Duration)> {
        Some((vec![address.parse().unwrap()], Duration::from_secs(seconds)))
    }

    fn wait(schedule: &Schedule, now: Instant) -> u64 {
        schedule.next_due().unwrap().saturating_duration_since(now).as_secs()
    }

    #[test]
    fn names_are_asked_for_when_their_time_is_over() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.want(&names(&["a"]), now);
        assert_eq!(schedule.due(now, 9), ["a".into()]);
        assert!(schedule.due(now, 9).is_empty(), "it is being asked for");
        assert!(schedule.answered("a", answer("10.0.0.1", 30), now).changed);
        assert_eq!(wait(&schedule, now), 30);
        let later = now + Duration::from_secs(30);
        assert_eq!(schedule.due(later, 9), ["a".into()]);
        assert!(!schedule.answered("a", answer("10.0.0.1", 0), later).changed, "nothing new");
        assert_eq!(wait(&schedule, later), 60);
    }

    #[test]
    fn the_last_good_answer_stays_when_asking_fails() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.want(&names(&["a"]), now);
        schedule.answered("a", answer("10.0.0.1", 30), now);
        let news = schedule.answered("a", None, now);
        assert_eq!(news, News { changed: false, failed_before: false, has_addresses: true });
        assert!(schedule.answered("a", None, now).failed_before);
        assert_eq!(wait(&schedule, now), 60);
        assert_eq!(schedule.resolutions()["a"].len(), 1);
    }

    #[test]
    fn the_order_of_an_answer_matters_where_one_address_is_used() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule
            .want(&[("a".into(), DnsResolution::Strict), ("b".into(), DnsResolution::Logical)].into(), now);
        let parsed = |addresses: &[&str]| {
            Some((addresses.iter().map(|ip| ip.parse().unwrap()).collect(), Duration::from_secs(1)))
        };
        let mut news = |addresses: &[&str]| {
            ["a", "b"].map(|name| schedule.answered(name, parsed(addresses), now).changed)
        };
        assert_eq!(news(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]), [true, true]);
        assert_eq!(news(&["10.0.0.1", "10.0.0.3", "10.0.0.2"]), [false, false]);
        assert_eq!(news(&["10.0.0.3", "10.0.0.1", "10.0.0.2"]), [false, true]);
        assert_eq!(schedule.resolutions()["b"][0].to_string(), "10.0.0.3");
    }

    #[test]
    fn a_name_never_resolved_is_asked_for_sooner() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.want(&names(&["a"]), now);
        let mut waits = Vec::new();
        for attempt in 0..8 {
            let news = schedule.answered("a", None, now);
            assert_eq!(news.changed, attempt == 0, "the first failure is news");
            assert!(!news.has_addresses);
            waits.push(wait(&schedule, now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(schedule.resolutions()["a"].is_empty());
    }

    #[test]
    fn names_nobody_wants_are_forgotten_and_few_are_asked_for_at_once() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.want(&names(&["a", "b", "c"]), now);
        assert_eq!(schedule.due(now, 2).len(), 2);
        schedule.want(&names(&["c"]), now);
        assert!(!schedule.answered("a", answer("10.0.0.1", 30), now).changed);
        assert!(schedule.resolutions().is_empty());
    }
}
