//! Which endpoints of a cluster are away, and until when.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use snapshot::OutlierDetection;

use super::{Health, Watch};

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

    /// Who is away.
    pub(crate) fn ejected(&self) -> Vec<SocketAddr> {
        let state = self.state();
        let away = state.members.iter().filter(|(_, member)| member.until.is_some());
        away.map(|(address, _)| *address).collect()
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
        if next_look.is_none_or(|due| due <= now) {
            *next_look = Some(now + settings.interval);
            // A quiet interval shortens the next ejection, as in Envoy; one that was spent away was not quiet.
            let quiet = members.values_mut().filter(|member| member.until.is_none());
            quiet.for_each(|member| member.times = member.times.saturating_sub(1));
        }
        for member in members.values_mut().filter(|member| member.until.is_some_and(|until| until <= now)) {
            member.until = None;
            member.health.forget_all();
            member.health.ejected.store(false, Relaxed);
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
