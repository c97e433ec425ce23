//! The limits of a cluster: places among its connections, its waiting requests and its retries.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::Arc,
};

use snapshot::RetryBudget;

use super::{
    policy::Policy,
    queue::{EndpointNumber, Queue, QueueTicket},
};
use crate::{
    shared::{Permit, Resource, Usage},
    upstream::Upstream,
};

/// This worker's connections to a cluster that limits them, and its further tries; kept across publications.
#[derive(Default)]
pub(super) struct WorkerUsage {
    open: Cell<u32>,
    /// Endpoints so far.
    endpoints_made: Cell<EndpointNumber>,
    /// How many there may be of all workers, as it was when one was made last.
    limit: Cell<u32>,
    /// Further tries under way that count against [`USUAL_BUDGET`].
    retries: Cell<u32>,
    /// Who waits for a connection to end or to fall idle.
    queue: Rc<Queue>,
    /// Whose idle connections may make room.
    endpoints: RefCell<Vec<Weak<Upstream>>>,
}

/// Says that a limit is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Overflow;

/// One connection's place among those of its cluster.
pub(crate) struct Slot {
    own: Rc<WorkerUsage>,
    /// Whose connection it is.
    number: EndpointNumber,
    usage: Arc<Usage>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.own.open.set(self.own.open.get() - 1);
        self.usage.give_back(Resource::Connections);
        if self.usage.current(Resource::Connections) >= self.own.limit.get() {
            // There is room for nobody, but an endpoint that has none any more may open one in any case.
            self.own.queue.call_all();
        } else {
            self.own.queue.make_room(self.number);
        }
    }
}

/// A place among the requests that wait for a connection.
pub(crate) struct PendingRequest {
    ticket: QueueTicket,
    _permit: Option<Permit>,
}

impl PendingRequest {
    /// Ends when it is worth looking for a connection; whoever finds none keeps the place.
    pub(crate) async fn come(&self) {
        self.ticket.come().await;
    }
}

/// Further tries of each worker to a cluster whose DestinationRule says nothing: half of what is under way. It keeps the
/// tries of a failing service from multiplying its load, and lets those through that some failing endpoints cause.
const USUAL_BUDGET: RetryBudget = RetryBudget { percent: 50.0, minimum: 10 };

/// One further try's place among those under way.
pub(crate) struct Retrying(#[expect(dead_code, reason = "held until it is dropped")] Tried);

enum Tried {
    Shared(#[expect(dead_code, reason = "held until it is dropped")] Permit),
    WorkerUsage(Rc<WorkerUsage>),
}

impl Drop for Tried {
    fn drop(&mut self) {
        if let Self::WorkerUsage(own) = self {
            own.retries.set(own.retries.get() - 1);
        }
    }
}

impl Policy {
    /// Counts one more of something until the permit is dropped; none where the cluster does not count.
    pub(crate) fn admit(&self, resource: Resource) -> Result<Option<Permit>, Overflow> {
        let Some(usage) = &self.usage else { return Ok(None) };
        let limit = usage.limit(resource, &self.limits).unwrap_or(u32::MAX);
        usage.admit(resource, limit).map(Some).ok_or(Overflow)
    }

    /// A place for one further try, of a request that an endpoint may have seen or not; none where it does not count.
    /// `active` tells this worker's requests to the cluster.
    ///
    /// Where no DestinationRule limits them there is [`USUAL_BUDGET`], for tries that may make an endpoint do its work
    /// again: a connection that fails costs nothing.
    pub(super) fn admit_retry(
        &self,
        was_seen: bool,
        active: impl FnOnce() -> u32,
    ) -> Result<Option<Retrying>, Overflow> {
        if self.limits.retry_budget.is_some() || self.limits.max_retries.is_some() {
            return Ok(self.admit(Resource::Retries)?.map(|permit| Retrying(Tried::Shared(permit))));
        }
        if !was_seen {
            return Ok(None);
        }
        if self.own.retries.get() >= USUAL_BUDGET.of(active()) {
            return Err(Overflow);
        }
        self.own.retries.set(self.own.retries.get() + 1);
        Ok(Some(Retrying(Tried::WorkerUsage(Rc::clone(&self.own)))))
    }

    /// A place for one more connection; none where the cluster does not limit them.
    ///
    /// At the limit idle connections make room. The `first` connection of a worker to an endpoint is always allowed, as
    /// in Envoy: otherwise requests would wait for those of other endpoints and workers. Whoever is refused and does not
    /// wait [notes](Self::note_refused_connection) it.
    pub(crate) fn slot(&self, number: EndpointNumber, first: bool) -> Result<Option<Slot>, Overflow> {
        let (Some(usage), Some(limit)) = (&self.usage, self.limits.max_connections) else { return Ok(None) };
        let take = |limit| usage.take(Resource::Connections, limit);
        if !take(limit) {
            if first || self.own.open.get() == 0 {
                usage.note_overflow(Resource::Connections);
                take(u32::MAX);
            } else if usage.current(Resource::Connections) > limit || !self.own.close_idle() || !take(limit) {
                // Beyond the limit, where first ones have gone, one that ends makes no room.
                return Err(Overflow);
            }
        }
        self.own.open.set(self.own.open.get() + 1);
        self.own.limit.set(limit);
        Ok(Some(Slot { own: Rc::clone(&self.own), number, usage: Arc::clone(usage) }))
    }

    /// What tells a new endpoint from all others of its cluster.
    pub(crate) fn number(&self) -> EndpointNumber {
        let number = self.own.endpoints_made.get().wrapping_add(1);
        self.own.endpoints_made.set(number);
        number
    }

    /// Whether others were there before who wait for a connection to this endpoint.
    pub(crate) fn is_waited_for(&self, number: EndpointNumber) -> bool {
        self.has_waiting() && self.own.queue.has(number)
    }

    /// Whether anybody waits for a connection.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.own.queue.is_empty()
    }

    /// The last place among the requests of this worker that wait for a connection.
    pub(crate) fn wait(&self, number: EndpointNumber) -> Result<PendingRequest, Overflow> {
        // Who may not wait does not ask for a connection, as in Envoy.
        let permit = self.admit(Resource::Pending)?;
        self.note_refused_connection();
        // Another worker may have left room that nobody here was told of.
        self.own.queue.make_room(number);
        Ok(PendingRequest { ticket: self.own.queue.join(number), _permit: permit })
    }

    /// Counts that there were as many connections as there may be.
    pub(crate) fn note_refused_connection(&self) {
        if let Some(usage) = &self.usage {
            usage.note_overflow(Resource::Connections);
        }
    }

    /// Tells those who wait that a connection to an endpoint has room.
    pub(crate) fn offer(&self, number: EndpointNumber) {
        if self.has_waiting() {
            self.own.queue.offer(number);
        }
    }

    /// Has all look who wait, for other rules or because the last connection to an endpoint may have ended.
    pub(crate) fn call_waiting(&self) {
        self.own.queue.call_all();
    }

    /// From now on idle connections to these may make room for others.
    pub(super) fn set_endpoints<'u>(&self, endpoints: impl Iterator<Item = &'u Rc<Upstream>>) {
        if self.limits.max_connections.is_some() {
            *self.own.endpoints.borrow_mut() = endpoints.map(Rc::downgrade).collect();
        }
    }

    /// Idle connections to this one may make room, too.
    pub(super) fn add_endpoint(&self, endpoint: &Rc<Upstream>) {
        if self.limits.max_connections.is_some() {
            let mut endpoints = self.own.endpoints.borrow_mut();
            endpoints.retain(|endpoint| endpoint.strong_count() > 0);
            endpoints.push(Rc::downgrade(endpoint));
        }
    }
}

impl WorkerUsage {
    fn close_idle(&self) -> bool {
        // Not borrowed while closing: a slot that is dropped notifies.
        let endpoints: Vec<_> = self.endpoints.borrow().iter().filter_map(Weak::upgrade).collect();
        endpoints.iter().any(|endpoint| endpoint.close_idle())
    }
}
