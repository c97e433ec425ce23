//! What a worker has sent to one endpoint, for the admin interface, and whether that was refused.

use std::{cell::Cell, rc::Rc, time::Instant};

use snapshot::EndpointCounts;

use crate::health::AttemptResult;

/// Counts of one endpoint; only its worker writes them.
#[derive(Debug, Default)]
pub(super) struct EndpointStats {
    open: Count,
    pub(super) connect_failures: Count,
    connections: Count,
    errors: Count,
    waiting: Count,
    successes: Count,
    pub(super) timeouts: Count,
    pub(super) requests: Count,
    /// When it last refused a connection, unless it has taken one since.
    pub(super) refused: Cell<Option<Instant>>,
}

/// A number that several hold.
#[derive(Debug, Default)]
pub(super) struct Count(Cell<u64>);

impl Count {
    pub(super) fn add(&self, number: u64) {
        self.0.set(self.0.get() + number);
    }

    fn take_back(&self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One connection that counts as open until this is dropped.
pub(super) struct Open(Rc<EndpointStats>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.take_back();
    }
}

/// One request that counts as waiting for a connection until this is dropped.
pub(super) struct Waiting(Rc<EndpointStats>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.take_back();
    }
}

impl EndpointStats {
    /// Counts a connection that is begun.
    pub(super) fn open(self: &Rc<Self>) -> Open {
        self.connections.add(1);
        self.open.add(1);
        Open(Rc::clone(self))
    }

    /// Whether there is a connection, or one on its way.
    pub(super) fn is_open(&self) -> bool {
        self.open.0.get() > 0
    }

    /// Counts a request that needs a connection.
    pub(super) fn waiting(self: &Rc<Self>) -> Waiting {
        self.waiting.add(1);
        Waiting(Rc::clone(self))
    }

    /// Counts how a request ended, as Envoy does.
    pub(super) fn observe(&self, result: AttemptResult) {
        match result {
            AttemptResult::Connected | AttemptResult::Opened => {}
            AttemptResult::Answered(status) if status < 500 => self.successes.add(1),
            AttemptResult::Answered(_) | AttemptResult::LocalFailure | AttemptResult::TimedOut => {
                self.errors.add(1);
            }
        }
    }

    pub(super) fn counts(&self) -> EndpointCounts {
        let Self {
            open, connect_failures, connections, errors, waiting, successes, timeouts, requests, ..
        } = self;
        EndpointCounts {
            cx_active: open.0.get(),
            cx_connect_fail: connect_failures.0.get(),
            cx_total: connections.0.get(),
            rq_active: 0,
            rq_error: errors.0.get(),
            rq_pending_active: waiting.0.get(),
            rq_success: successes.0.get(),
            rq_timeout: timeouts.0.get(),
            rq_total: requests.0.get(),
        }
    }
}
