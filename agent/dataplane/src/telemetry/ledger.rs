//! What a worker has counted, for whoever asks: reading takes nothing of the worker's time.

use std::{
    hash::Hash,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    ConnectionKey, ConnectionMeasures, RequestKey, RequestMeasures, Telemetry,
    sums::{ConnectionSums, Measured, RequestSums, Sum},
};

/// All that one worker counts.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(super) requests: Pages<RequestKey, RequestSums>,
    pub(super) connections: Pages<ConnectionKey, ConnectionSums>,
    /// What found no place.
    pub(super) lost: Sum,
}

impl Ledger {
    /// Adds what the worker has counted so far.
    pub(crate) fn add_to(&self, telemetry: &mut Telemetry) {
        self.requests.add_to(&mut telemetry.requests, RequestMeasures::add);
        self.connections.add_to(&mut telemetry.connections, ConnectionMeasures::add);
        telemetry.lost += self.lost.get();
    }
}

/// Sums of one kind by their keys.
#[derive(Debug)]
pub(super) struct Pages<K, S> {
    /// What was begun since it was last read. It is locked only to add one or to take all, so that a worker never waits
    /// for who reads.
    fresh: Mutex<Vec<(K, Arc<S>)>>,
    known: Mutex<Vec<(K, Arc<S>)>>,
}

impl<K, S> Default for Pages<K, S> {
    fn default() -> Self {
        Self { fresh: Mutex::default(), known: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, S: Measured> Pages<K, S> {
    /// Sums that are read from now on.
    pub(super) fn begin(&self, key: K) -> Arc<S> {
        let sums = Arc::<S>::default();
        lock(&self.fresh).push((key, Arc::clone(&sums)));
        sums
    }

    fn add_to(
        &self,
        sums: &mut HashMap<K, S::Measures, RandomState>,
        add: fn(&mut S::Measures, &S::Measures),
    ) {
        let mut known = lock(&self.known);
        known.append(&mut mem::take(&mut *lock(&self.fresh)));
        for (key, own) in &*known {
            match sums.get_mut(key) {
                Some(sum) => add(sum, &own.read()),
                None => _ = sums.insert(key.clone(), own.read()),
            }
        }
    }
}

fn lock<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list is whole at each point that could panic.
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
