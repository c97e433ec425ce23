//! Outlier ejection: endpoints that fail again and again are left alone for a while.
//!
//! The workers share what they have seen of an endpoint. A healthy endpoint's counters are only read, so that sharing
//! costs the path of a request nothing; a failure writes one of them, and an ejection takes a lock. Whoever picks
//! endpoints looks at one number, [`Outliers::generation`], to learn that the set of usable ones has changed.

mod outliers;
mod told;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use snapshot::{Address, OutlierDetection};

pub use self::outliers::Ejections;
pub(crate) use self::outliers::Outliers;

/// What an attempt at an endpoint says about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AttemptResult {
    /// It answered with this status.
    Answered(u16),
    /// A connection to it came about.
    Connected,
    /// An opaque connection came about, of which nothing more is told.
    Opened,
    /// No connection came about, or it broke before an answer.
    LocalFailure,
    /// Its answer did not come in time.
    TimedOut,
}

/// For what an endpoint is ejected, by Envoy's names of its counters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// Answers of 5xx, or of those that are listed, in a row.
    Consecutive5xx,
    /// Answers of 502, 503 and 504 in a row.
    ConsecutiveGatewayFailure,
    /// Connections in a row that did not come about, or broke before an answer.
    ConsecutiveLocalOriginFailure,
}

/// That an endpoint is left alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ejection {
    pub(crate) cause: Cause,
    /// What was seen last.
    pub(crate) result: AttemptResult,
    /// How long.
    pub(crate) time: Duration,
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
    /// Takes the result of an attempt into account. `Some` when the endpoint has now failed often enough to be ejected.
    fn observe(&self, result: AttemptResult, settings: &OutlierDetection) -> Option<Cause> {
        match (result, settings.consecutive_local_failures) {
            (AttemptResult::Answered(status), _) => self.answered(status, settings),
            (AttemptResult::Connected, _) | (AttemptResult::Opened, Some(_)) => {
                forget(&self.local_failures);
                None
            }
            // As Envoy counts it: as an answer of 200.
            (AttemptResult::Opened, None) => self.answered(200, settings),
            (AttemptResult::LocalFailure | AttemptResult::TimedOut, limit @ Some(_)) => {
                reached(&self.local_failures, limit).then_some(Cause::ConsecutiveLocalOriginFailure)
            }
            // As Envoy counts them: as answers 503 and 504.
            (AttemptResult::LocalFailure | AttemptResult::TimedOut, None) => self.failed(settings, true),
        }
    }

    fn answered(&self, status: u16, settings: &OutlierDetection) -> Option<Cause> {
        let is_error = match settings.error_codes.as_slice() {
            [] => status >= 500,
            codes => codes.binary_search(&status).is_ok(),
        };
        if is_error {
            return self.failed(settings, matches!(status, 502..=504));
        }
        forget(&self.errors);
        forget(&self.gateway_errors);
        None
    }

    fn failed(&self, settings: &OutlierDetection, at_gateway: bool) -> Option<Cause> {
        let errors = reached(&self.errors, settings.consecutive_5xx);
        let gateway_errors = if at_gateway {
            reached(&self.gateway_errors, settings.consecutive_gateway_errors)
        } else {
            forget(&self.gateway_errors);
            false
        };
        match (gateway_errors, errors) {
            (true, _) => Some(Cause::ConsecutiveGatewayFailure),
            (false, true) => Some(Cause::Consecutive5xx),
            (false, false) => None,
        }
    }

    fn forget_all(&self) {
        [&self.errors, &self.gateway_errors, &self.local_failures].into_iter().for_each(forget);
    }
}

/// One worker's view of the health of an endpoint.
pub(crate) struct EndpointMonitor {
    address: Address,
    health: Arc<Health>,
    outliers: Arc<Outliers>,
    settings: Arc<OutlierDetection>,
}

impl EndpointMonitor {
    /// Takes the result of an attempt into account. `Some` when the endpoint is ejected for it.
    pub(crate) fn observe(&self, result: AttemptResult) -> Option<Ejection> {
        let cause = self.health.observe(result, &self.settings)?;
        let time = self.outliers.eject(&self.address, cause, Instant::now())?;
        Some(Ejection { cause, result, time })
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

#[cfg(test)]
mod tests;
