//! Requests to routes that have counts of their own (`statPrefix`), in the measures that Envoy has for these.

use std::time::Duration;

use hashbrown::Equivalent;

use super::{
    Histogram, ResponseCode,
    sums::{HistogramSums, Measured, Sum},
};

/// Requests that are counted together: of one route, or of those of a virtual host that share a prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RouteKey<S = Box<str>> {
    /// The virtual host's name.
    pub virtual_host: S,
    /// The route's `statPrefix`.
    pub stat_prefix: S,
    /// Status of the answer; 0 when there was none.
    pub status: ResponseCode,
}

impl Equivalent<RouteKey> for RouteKey<&str> {
    fn equivalent(&self, key: &RouteKey) -> bool {
        self.status == key.status
            && *self.stat_prefix == *key.stat_prefix
            && *self.virtual_host == *key.virtual_host
    }
}

impl RouteKey<&str> {
    pub(super) fn to_owned(self) -> RouteKey {
        let Self { virtual_host, stat_prefix, status } = self;
        RouteKey { virtual_host: virtual_host.into(), stat_prefix: stat_prefix.into(), status }
    }
}

/// What a request is counted under before it is known how it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedRoute<S> {
    pub(crate) virtual_host: S,
    pub(crate) stat_prefix: S,
}

impl<S> CountedRoute<S> {
    pub(crate) fn answered(self, status: ResponseCode) -> RouteKey<S> {
        RouteKey { virtual_host: self.virtual_host, stat_prefix: self.stat_prefix, status }
    }
}

/// How one request fared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteRequest {
    /// Tries that had a connection.
    pub(crate) tries: u32,
    /// Tries after the first.
    pub(crate) retries: u32,
    /// Whether the answer is of a further try and not worth another.
    pub(crate) retried_well: bool,
    /// Why no further try was made, if one was wanted.
    pub(crate) retry_limit_exceeded: bool,
    pub(crate) retry_overflow: bool,
    /// Whether the time for the whole request passed.
    pub(crate) timed_out: bool,
    /// From the request's end to the answer's, where both came whole.
    pub(crate) time: Option<Duration>,
}

/// Sums over requests to a route.
#[derive(Clone, Debug, Default)]
pub struct RouteMeasures {
    /// Requests that were answered.
    pub completed: u64,
    /// Tries that had a connection to an endpoint.
    pub tries: u64,
    /// Requests that took longer than the route allows.
    pub timeouts: u64,
    /// Further tries.
    pub retries: u64,
    /// Requests that would have been tried again, had it been allowed once more.
    pub retry_limit_exceeded: u64,
    /// Requests that would have been tried again, had not too many been under way.
    pub retry_overflow: u64,
    /// Requests that a further try has answered well enough.
    pub retry_success: u64,
    /// From the request's end to the answer's, in milliseconds, where both came whole.
    pub times: Histogram,
}

impl RouteMeasures {
    /// Adds the sums of others.
    pub fn add(&mut self, other: &Self) {
        self.completed += other.completed;
        self.tries += other.tries;
        self.timeouts += other.timeouts;
        self.retries += other.retries;
        self.retry_limit_exceeded += other.retry_limit_exceeded;
        self.retry_overflow += other.retry_overflow;
        self.retry_success += other.retry_success;
        self.times.add(&other.times);
    }
}

/// [`RouteMeasures`] as they grow.
#[derive(Debug, Default)]
pub(super) struct RouteSums {
    /// All requests, answered or not.
    ended: Sum,
    completed: Sum,
    tries: Sum,
    timeouts: Sum,
    retries: Sum,
    retry_limit_exceeded: Sum,
    retry_overflow: Sum,
    retry_success: Sum,
    times: HistogramSums,
}

impl RouteSums {
    pub(super) fn record(&self, status: ResponseCode, request: RouteRequest) {
        self.ended.add(1);
        self.completed.add(status.class().is_some().into());
        self.tries.add(request.tries.into());
        self.timeouts.add(request.timed_out.into());
        self.retries.add(request.retries.into());
        self.retry_limit_exceeded.add(request.retry_limit_exceeded.into());
        self.retry_overflow.add(request.retry_overflow.into());
        self.retry_success.add(request.retried_well.into());
        if let Some(time) = request.time {
            self.times.record(time.as_secs_f64() * 1000.0);
        }
    }
}

impl Measured for RouteSums {
    type Measures = RouteMeasures;

    fn read(&self) -> RouteMeasures {
        RouteMeasures {
            completed: self.completed.get(),
            tries: self.tries.get(),
            timeouts: self.timeouts.get(),
            retries: self.retries.get(),
            retry_limit_exceeded: self.retry_limit_exceeded.get(),
            retry_overflow: self.retry_overflow.get(),
            retry_success: self.retry_success.get(),
            times: self.times.read(),
        }
    }

    fn activity(&self) -> u64 {
        self.ended.get()
    }
}
