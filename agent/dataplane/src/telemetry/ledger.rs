//! What a worker has counted, for whoever asks: reading takes nothing of the worker's time.

use std::{
    collections::HashSet,
    hash::Hash,
    mem,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    time::Instant,
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    ConnectionKey, ConnectionMeasures, RequestKey, RequestMeasures, RouteKey, RouteMeasures, Telemetry,
    routes::RouteSums,
    sums::{ConnectionSums, Measured, RequestSums, Sum},
};

use crate::bounds;

/// All that one worker counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(super) requests: Pages<RequestKey, RequestSums>,
    pub(super) connections: Pages<ConnectionKey, ConnectionSums>,
    pub(super) routes: Pages<RouteKey, RouteSums>,
    /// What found no place.
    pub(super) lost: Sum,
}

impl Ledger {
    /// What the workers have counted so far. Where one has little room left, series that did not change for an hour are
    /// told for the last time.
    pub(crate) fn read(ledgers: &[Arc<Self>], now: Instant) -> Telemetry {
        let requests: Vec<_> = ledgers.iter().map(|ledger| &ledger.requests).collect();
        let connections: Vec<_> = ledgers.iter().map(|ledger| &ledger.connections).collect();
        let routes: Vec<_> = ledgers.iter().map(|ledger| &ledger.routes).collect();
        Telemetry {
            requests: read(&requests, RequestMeasures::add, now),
            connections: read(&connections, ConnectionMeasures::add, now),
            routes: read(&routes, RouteMeasures::add, now),
            lost: ledgers.iter().map(|ledger| ledger.lost.get()).sum(),
        }
    }
}

/// Sums of one kind by their keys.
#[derive(Debug)]
pub(super) struct Pages<K, S> {
    /// What was begun since it was last read. It is locked only to add one or to take all, so that a worker never waits
    /// for who reads.
    fresh: Mutex<Vec<(K, Arc<Kept<S>>)>>,
    known: Mutex<Vec<Page<K, S>>>,
    /// Whether any was ever forgotten.
    forgets: AtomicBool,
}

/// Sums that whoever reads may forget.
#[derive(Debug)]
pub(crate) struct Kept<S> {
    sums: S,
    /// How active it had been when it was forgotten.
    forgotten: AtomicU64,
}

/// No sums have ever been that active.
const NOT_FORGOTTEN: u64 = u64::MAX;

#[derive(Debug)]
struct Page<K, S> {
    key: K,
    sums: Arc<Kept<S>>,
    /// How active it was when it was last read, and since when.
    activity: u64,
    since: Instant,
}

impl<S> Deref for Kept<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.sums
    }
}

impl<K, S> Default for Pages<K, S> {
    fn default() -> Self {
        Self { fresh: Mutex::default(), known: Mutex::default(), forgets: AtomicBool::new(false) }
    }
}

impl<K, S: Measured> Pages<K, S> {
    /// Sums that are read from now on.
    pub(super) fn begin(&self, key: K) -> Arc<Kept<S>> {
        let kept = Arc::new(Kept { sums: S::default(), forgotten: AtomicU64::new(NOT_FORGOTTEN) });
        lock(&self.fresh).push((key, Arc::clone(&kept)));
        kept
    }

    /// Whether any was ever forgotten.
    pub(super) fn forgets(&self) -> bool {
        self.forgets.load(Acquire)
    }

    /// Whether these may be let go of: they are forgotten, and nobody has counted there since. Otherwise they are read
    /// again.
    pub(super) fn is_over(&self, kept: &Arc<Kept<S>>, key: impl FnOnce() -> K) -> bool {
        let forgotten = kept.forgotten.load(Acquire);
        if forgotten == NOT_FORGOTTEN {
            return false;
        }
        if kept.activity() == forgotten {
            // Somebody else may count there yet.
            return Arc::strong_count(kept) == 1;
        }
        kept.forgotten.store(NOT_FORGOTTEN, Release);
        lock(&self.fresh).push((key(), Arc::clone(kept)));
        false
    }

    /// All there are, as they stand now.
    fn look(&self, now: Instant) -> MutexGuard<'_, Vec<Page<K, S>>> {
        let mut known = lock(&self.known);
        let fresh = mem::take(&mut *lock(&self.fresh));
        known.extend(fresh.into_iter().map(|(key, sums)| Page { key, sums, activity: 0, since: now }));
        for page in &mut *known {
            let activity = page.sums.activity();
            if activity != page.activity {
                (page.activity, page.since) = (activity, now);
            }
        }
        known
    }

    fn forget(&self, page: &Page<K, S>) {
        self.forgets.store(true, Release);
        page.sums.forgotten.store(page.activity, Release);
    }
}

fn read<K: Clone + Eq + Hash, S: Measured>(
    workers: &[&Pages<K, S>],
    add: fn(&mut S::Measures, &S::Measures),
    now: Instant,
) -> HashMap<K, S::Measures, RandomState> {
    let mut sums: HashMap<K, S::Measures, RandomState> = HashMap::default();
    let mut lists: Vec<_> = workers.iter().map(|pages| pages.look(now)).collect();
    for page in lists.iter().flat_map(|list| list.iter()) {
        match sums.get_mut(&page.key) {
            Some(sum) => add(sum, &page.sums.read()),
            None => _ = sums.insert(page.key.clone(), page.sums.read()),
        }
    }
    if lists.iter().any(|list| list.len() >= bounds::CROWDED_SERIES) {
        // One worker's part is not forgotten while others still count: the sum would fall.
        let is_used = |page: &&Page<K, S>| now.saturating_duration_since(page.since) < bounds::UNUSED_SERIES;
        let used = lists.iter().flat_map(|list| list.iter()).filter(is_used);
        let used: HashSet<K, RandomState> = used.map(|page| page.key.clone()).collect();
        for (pages, list) in workers.iter().zip(&mut lists) {
            list.extract_if(.., |page| !used.contains(&page.key)).for_each(|page| pages.forget(&page));
        }
    }
    sums
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list is whole at each point that could panic.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
