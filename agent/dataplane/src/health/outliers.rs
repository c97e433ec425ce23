//! Which endpoints of a cluster are away, and until when.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use snapshot::{Address, OutlierDetection};

use super::{Cause, EndpointMonitor, Health};

/// The health of one cluster's endpoints, shared by the workers and kept across publications.
#[derive(Debug)]
pub(crate) struct Outliers {
    generation: AtomicU64,
    away: AtomicU32,
    counts: Counts,
    state: Mutex<State>,
}

/// How often endpoints were ejected, by cause, and were not because too many were away.
#[derive(Debug, Default)]
struct Counts {
    errors: AtomicU64,
    gateway_failures: AtomicU64,
    local_failures: AtomicU64,
    overflow: AtomicU64,
}

/// Ejections from a cluster since it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ejections {
    /// Endpoints that are away.
    pub active: u64,
    /// For answers of 5xx.
    pub consecutive_5xx: u64,
    /// For answers of 502, 503 and 504.
    pub consecutive_gateway_failure: u64,
    /// For connections that failed, where these are counted apart.
    pub consecutive_local_origin_failure: u64,
    /// That did not happen because too many were away.
    pub overflow: u64,
}

#[derive(Debug)]
struct State {
    settings: Arc<OutlierDetection>,
    members: HashMap<Address, Member>,
    next_look: Option<Instant>,
}

#[derive(Debug, Default)]
struct Member {
    health: Arc<Health>,
    /// Ejections that still lengthen the next one.
    times: u32,
    until: Option<Instant>,
}

impl Counts {
    fn of(&self, cause: Cause) -> &AtomicU64 {
        match cause {
            Cause::Consecutive5xx => &self.errors,
            Cause::ConsecutiveGatewayFailure => &self.gateway_failures,
            Cause::ConsecutiveLocalOriginFailure => &self.local_failures,
        }
    }
}

impl Outliers {
    /// Knows no endpoints yet.
    pub(crate) fn new(settings: OutlierDetection) -> Self {
        let state = State { settings: Arc::new(settings), members: HashMap::new(), next_look: None };
        Self {
            generation: AtomicU64::new(0),
            away: AtomicU32::new(0),
            counts: Counts::default(),
            state: Mutex::new(state),
        }
    }

    /// Other rules from now on. Who is away stays away as long as was said.
    pub(crate) fn set_settings(&self, settings: &OutlierDetection) {
        let mut state = self.state();
        if *state.settings != *settings {
            state.settings = Arc::new(settings.clone());
        }
    }

    /// Other endpoints from now on; those that stay keep their health.
    pub(crate) fn set_endpoints(&self, endpoints: impl Iterator<Item = Address>) {
        let mut state = self.state();
        let endpoints: HashSet<Address> = endpoints.collect();
        if endpoints.len() == state.members.len() && endpoints.iter().all(|a| state.members.contains_key(a)) {
            return;
        }
        let mut old = std::mem::take(&mut state.members);
        state.members = endpoints
            .into_iter()
            .map(|address| {
                let member = old.remove(&address).unwrap_or_default();
                (address, member)
            })
            .collect();
        self.changed(&state);
    }

    /// Changes whenever the set of usable endpoints may have.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Who is away.
    pub(crate) fn ejected(&self) -> Vec<Address> {
        let state = self.state();
        let away = state.members.iter().filter(|(_, member)| member.until.is_some());
        away.map(|(address, _)| address.clone()).collect()
    }

    /// How many are away, and how often any was sent away.
    pub(crate) fn ejections(&self) -> Ejections {
        Ejections {
            active: self.away.load(Relaxed).into(),
            consecutive_5xx: self.counts.errors.load(Relaxed),
            consecutive_gateway_failure: self.counts.gateway_failures.load(Relaxed),
            consecutive_local_origin_failure: self.counts.local_failures.load(Relaxed),
            overflow: self.counts.overflow.load(Relaxed),
        }
    }

    /// What is known of an endpoint; `None` for a stranger.
    pub(crate) fn monitor(self: &Arc<Self>, address: &Address) -> Option<EndpointMonitor> {
        let state = self.state();
        let health = Arc::clone(&state.members.get(address)?.health);
        Some(EndpointMonitor {
            address: address.clone(),
            health,
            outliers: Arc::clone(self),
            settings: Arc::clone(&state.settings),
        })
    }

    /// Ejects an endpoint, unless too many are away already. For how long, when it is away now and was not before.
    pub(crate) fn eject(&self, address: &Address, cause: Cause, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let State { settings, members, .. } = &mut *state;
        let may = may_eject(members.values().filter(|m| m.until.is_some()).count(), members.len(), settings);
        let member = members.get_mut(address).filter(|member| member.until.is_none())?;
        member.health.forget_all();
        if !may {
            self.counts.overflow.fetch_add(1, Relaxed);
            return None;
        }
        member.times = member.times.saturating_add(1);
        let time = time_away(settings, member.times);
        member.until = Some(now + time);
        member.health.ejected.store(true, Relaxed);
        self.changed(&state);
        self.counts.of(cause).fetch_add(1, Relaxed);
        Some(time)
    }

    /// Takes back who has been away long enough, and returns them. Cheap while nobody is away and no ejection is
    /// remembered.
    pub(crate) fn look(&self, now: Instant) -> Vec<Address> {
        // Another worker is looking: once is enough.
        let Ok(mut state) = self.state.try_lock() else { return Vec::new() };
        let State { settings, members, next_look } = &mut *state;
        if next_look.is_none_or(|due| due <= now) {
            *next_look = Some(now + settings.interval);
            // A quiet interval shortens the next ejection, as in Envoy; one that was spent away was not quiet.
            let quiet = members.values_mut().filter(|member| member.until.is_none());
            quiet.for_each(|member| member.times = member.times.saturating_sub(1));
        }
        let mut back = Vec::new();
        let over = |member: &Member| member.until.is_some_and(|until| until <= now);
        for (address, member) in members.iter_mut().filter(|(_, member)| over(member)) {
            back.push(address.clone());
            member.until = None;
            member.health.forget_all();
            member.health.ejected.store(false, Relaxed);
        }
        let away = members.values().filter(|member| member.until.is_some()).count();
        if u32::try_from(away).is_ok_and(|away| away != self.away.load(Relaxed)) {
            self.changed(&state);
        }
        back
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
