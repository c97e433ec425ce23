//! Outlier ejection: endpoints that fail again and again are left alone for a while.
//!
//! The workers share what they have seen of an endpoint. A healthy endpoint's counters are only read, so that sharing
//! costs the path of a request nothing; a failure writes one of them, and an ejection takes a lock. Whoever picks
//! endpoints looks at one number, [`Outliers::generation`], to learn that the set of usable ones has changed.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use snapshot::OutlierDetection;

/// What an attempt at an endpoint says about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// It answered with this status.
    Answered(u16),
    /// A connection to it came about.
    Connected,
    /// No connection came about, or it broke before an answer.
    LocalFailure,
}

/// The health of one cluster's endpoints, shared by the workers and kept across publications.
#[derive(Debug)]
pub(crate) struct Outliers {
    generation: AtomicU64,
    away: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Arc<OutlierDetection>,
    members: HashMap<SocketAddr, Member>,
    next_look: Option<Instant>,
}

#[derive(Debug, Default)]
struct Member {
    health: Arc<Health>,
    /// Ejections that still lengthen the next one.
    times: u32,
    until: Option<Instant>,
}

/// The health of one endpoint.
#[derive(Debug, Default)]
struct Health {
    ejected: AtomicBool,
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
}

impl Health {
    /// Takes a sign into account. True when the endpoint has now failed often enough to be ejected.
    fn observe(&self, sign: Sign, settings: &OutlierDetection) -> bool {
        match (sign, settings.consecutive_local_failures) {
            (Sign::Answered(status), _) => self.answered(status, settings),
            (Sign::Connected, _) => {
                forget(&self.local_failures);
                false
            }
            (Sign::LocalFailure, limit @ Some(_)) => reached(&self.local_failures, limit),
            // As Envoy counts a failed connection: as an answer 503.
            (Sign::LocalFailure, None) => self.failed(settings, true),
        }
    }

    fn answered(&self, status: u16, settings: &OutlierDetection) -> bool {
        let is_error = match settings.error_codes.as_slice() {
            [] => status >= 500,
            codes => codes.binary_search(&status).is_ok(),
        };
        if is_error {
            return self.failed(settings, matches!(status, 502..=504));
        }
        forget(&self.errors);
        forget(&self.gateway_errors);
        false
    }

    fn failed(&self, settings: &OutlierDetection, at_gateway: bool) -> bool {
        let errors = reached(&self.errors, settings.consecutive_5xx);
        let gateway_errors = if at_gateway {
            reached(&self.gateway_errors, settings.consecutive_gateway_errors)
        } else {
            forget(&self.gateway_errors);
            false
        };
        errors || gateway_errors
    }

    fn forget_all(&self) {
        [&self.errors, &self.gateway_errors, &self.local_failures].into_iter().for_each(forget);
    }
}

/// One worker's eye on one endpoint.
pub(crate) struct Watch {
    address: SocketAddr,
    health: Arc<Health>,
    outliers: Arc<Outliers>,
    settings: Arc<OutlierDetection>,
}

impl Watch {
    /// Takes a sign into account. True when the endpoint is ejected for it.
    pub(crate) fn observe(&self, sign: Sign) -> bool {
        self.health.observe(sign, &self.settings) && self.outliers.eject(self.address, Instant::now())
    }

    /// Whether the endpoint is to be left alone.
    pub(crate) fn is_ejected(&self) -> bool {
        self.health.ejected.load(Relaxed)
    }
}

/// Not written when there is nothing to forget: other workers read the same line of memory.
fn forget(counter: &AtomicU32) {
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
}

fn reached(counter: &AtomicU32, limit: Option<u32>) -> bool {
    limit.is_some_and(|limit| counter.fetch_add(1, Relaxed).saturating_add(1) >= limit)
}

impl Outliers {
    /// Knows no endpoints yet.
    pub(crate) fn new(settings: OutlierDetection) -> Self {
        let state = State { settings: Arc::new(settings), members: HashMap::new(), next_look: None };
        Self { generation: AtomicU64::new(0), away: AtomicU32::new(0), state: Mutex::new(state) }
    }

    /// Other rules from now on. Who is away stays away as long as was said.
    pub(crate) fn set_settings(&self, settings: &OutlierDetection) {
        let mut state = self.state();
        if *state.settings != *settings {
            state.settings = Arc::new(settings.clone());
        }
    }

    /// Other endpoints from now on; those that stay keep their health.
    pub(crate) fn set_endpoints(&self, endpoints: impl Iterator<Item = SocketAddr>) {
        let mut state = self.state();
        let endpoints: HashSet<SocketAddr> = endpoints.collect();
        if endpoints.len() == state.members.len() && endpoints.iter().all(|a| state.members.contains_key(a)) {
            return;
        }
        let mut old = std::mem::take(&mut state.members);
        state.members = endpoints
            .into_iter()
            .map(|address| (address, old.remove(&address).unwrap_or_default()))
            .collect();
        self.changed(&state);
    }

    /// Changes whenever the set of usable endpoints may have.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// What is known of an endpoint; `None` for a stranger.
    pub(crate) fn watch(self: &Arc<Self>, address: SocketAddr) -> Option<Watch> {
        let state = self.state();
        let health = Arc::clone(&state.members.get(&address)?.health);
        Some(Watch { address, health, outliers: Arc::clone(self), settings: Arc::clone(&state.settings) })
    }

    /// Ejects an endpoint, unless too many are away already. True when it is away now and was not before.
    pub(crate) fn eject(&self, address: SocketAddr, now: Instant) -> bool {
        let mut state = self.state();
        let State { settings, members, .. } = &mut *state;
        let may = may_eject(members.values().filter(|m| m.until.is_some()).count(), members.len(), settings);
        let Some(member) = members.get_mut(&address).filter(|member| member.until.is_none()) else {
            return false;
        };
        member.health.forget_all();
        if !may {
            return false;
        }
        member.times = member.times.saturating_add(1);
        member.until = Some(now + time_away(settings, member.times));
        member.health.ejected.store(true, Relaxed);
        self.changed(&state);
        true
    }

    /// Takes back who has been away long enough. Cheap while nobody is away and no ejection is remembered.
    pub(crate) fn look(&self, now: Instant) {
        // Another worker is looking: once is enough.
        let Ok(mut state) = self.state.try_lock() else { return };
        let State { settings, members, next_look } = &mut *state;
        for member in members.values_mut().filter(|member| member.until.is_some_and(|until| until <= now)) {
            member.until = None;
            member.health.forget_all();
            member.health.ejected.store(false, Relaxed);
        }
        if next_look.is_none_or(|due| due <= now) {
            *next_look = Some(now + settings.interval);
            // A quiet interval shortens the next ejection, as in Envoy.
            let quiet = members.values_mut().filter(|member| member.until.is_none());
            quiet.for_each(|member| member.times = member.times.saturating_sub(1));
        }
        let away = members.values().filter(|member| member.until.is_some()).count();
        if u32::try_from(away).is_ok_and(|away| away != self.away.load(Relaxed)) {
            self.changed(&state);
        }
    }

    fn changed(&self, state: &State) {
        let away = state.members.values().filter(|member| member.until.is_some()).count();
        self.away.store(u32::try_from(away).unwrap_or(u32::MAX), Relaxed);
        self.generation.fetch_add(1, Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole at each point that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One endpoint may always be ejected: with few endpoints the default percentage would protect all of them.
fn may_eject(away: usize, endpoints: usize, settings: &OutlierDetection) -> bool {
    away == 0 || (away + 1) * 100 <= endpoints * settings.max_ejection_percent as usize
}

fn time_away(settings: &OutlierDetection, times: u32) -> Duration {
    settings.base_ejection_time.saturating_mul(times).min(settings.max_ejection_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    fn outliers(settings: &OutlierDetection, endpoints: u8) -> Arc<Outliers> {
        let outliers = Outliers::new(settings.clone());
        outliers.set_endpoints((1..=endpoints).map(address));
        Arc::new(outliers)
    }

    #[test]
    fn five_errors_in_a_row_and_no_fewer_make_an_outlier() {
        let (health, settings) = (Health::default(), OutlierDetection::default());
        let mut signs = [500, 503, 500, 599, 200, 500, 500, 500, 500, 500].map(Sign::Answered).into_iter();
        assert!(signs.by_ref().take(9).all(|sign| !health.observe(sign, &settings)));
        assert!(health.observe(signs.next().unwrap(), &settings));
    }

    #[test]
    fn gateway_errors_are_counted_apart_and_broken_by_other_answers() {
        let settings = OutlierDetection {
            consecutive_5xx: None,
            consecutive_gateway_errors: Some(2),
            ..OutlierDetection::default()
        };
        let health = Health::default();
        let observed = [502, 500, 503].map(|status| health.observe(Sign::Answered(status), &settings));
        assert_eq!(observed, [false; 3]);
        assert!(health.observe(Sign::LocalFailure, &settings), "a failed connection counts as 503");
    }

    #[test]
    fn failures_to_connect_are_counted_apart_when_split() {
        let settings =
            OutlierDetection { consecutive_local_failures: Some(2), ..OutlierDetection::default() };
        let health = Health::default();
        assert!(!health.observe(Sign::LocalFailure, &settings));
        assert!(!health.observe(Sign::Connected, &settings));
        assert!(!health.observe(Sign::LocalFailure, &settings));
        assert!(!health.observe(Sign::Answered(200), &settings), "an answer says nothing about connecting");
        assert!(health.observe(Sign::LocalFailure, &settings));
    }

    #[test]
    fn listed_codes_replace_5xx() {
        let settings = OutlierDetection {
            error_codes: vec![404, 429],
            consecutive_5xx: Some(1),
            ..OutlierDetection::default()
        };
        assert!(!Health::default().observe(Sign::Answered(500), &settings));
        assert!(Health::default().observe(Sign::Answered(429), &settings));
    }

    #[test]
    fn one_may_always_go_and_more_only_within_the_percentage() {
        let now = Instant::now();
        let few = outliers(&OutlierDetection::default(), 3);
        assert_eq!([1, 2].map(|n| few.eject(address(n), now)), [true, false]);
        let half = outliers(&OutlierDetection { max_ejection_percent: 50, ..OutlierDetection::default() }, 4);
        assert_eq!([1, 2, 3].map(|n| half.eject(address(n), now)), [true, true, false]);
        assert!(!half.eject(address(1), now), "it is away already");
        assert!(!half.eject(address(9), now), "nobody knows it");
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_maximum_and_good_conduct_shortens_it() {
        let settings = OutlierDetection {
            max_ejection_time: Duration::from_secs(50),
            interval: Duration::from_secs(1000),
            ..OutlierDetection::default()
        };
        let outliers = outliers(&settings, 2);
        let health = outliers.watch(address(1)).unwrap();
        let mut now = Instant::now();
        outliers.look(now);
        for expected in [30, 50, 50] {
            assert!(outliers.eject(address(1), now));
            outliers.look(now + Duration::from_secs(expected - 1));
            assert!(health.is_ejected());
            now += Duration::from_secs(expected);
            outliers.look(now);
            assert!(!health.is_ejected());
        }
        for quiet in 1..=3 {
            outliers.look(now + settings.interval * quiet);
        }
        now += settings.interval * 4;
        assert!(outliers.eject(address(1), now));
        outliers.look(now + Duration::from_secs(30));
        assert!(!health.is_ejected());
    }

    #[test]
    fn endpoints_that_stay_keep_their_health_across_changes() {
        let outliers = outliers(&OutlierDetection::default(), 2);
        outliers.eject(address(1), Instant::now());
        let before = outliers.generation();
        outliers.set_endpoints([address(1), address(7)].into_iter());
        assert_ne!(outliers.generation(), before);
        assert!(outliers.watch(address(1)).unwrap().is_ejected());
        assert!(outliers.watch(address(2)).is_none());
        outliers.set_endpoints([address(7)].into_iter());
        outliers.set_endpoints([address(1), address(7)].into_iter());
        assert!(!outliers.watch(address(1)).unwrap().is_ejected(), "it is another endpoint now");
    }
}
