//! Outlier ejection: endpoints that fail again and again are left alone for a while.
//!
//! The workers share what they have seen of an endpoint. A healthy endpoint's counters are only read, so that sharing
//! costs the path of a request nothing; a failure writes one of them, and an ejection takes a lock. Whoever picks
//! endpoints looks at one number, [`Outliers::generation`], to learn that the set of usable ones has changed.

mod outliers;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Instant,
};

use snapshot::OutlierDetection;

pub(crate) use self::outliers::Outliers;

/// What an attempt at an endpoint says about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// It answered with this status.
    Answered(u16),
    /// A connection to it came about.
    Connected,
    /// No connection came about, or it broke before an answer.
    LocalFailure,
    /// Its answer did not come in time.
    TimedOut,
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
            (Sign::LocalFailure | Sign::TimedOut, limit @ Some(_)) => reached(&self.local_failures, limit),
            // As Envoy counts them: as answers 503 and 504.
            (Sign::LocalFailure | Sign::TimedOut, None) => self.failed(settings, true),
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

#[cfg(test)]
mod tests;
