//! One request's way to an answer: endpoints, tries and limits of time.

mod clock;
mod watched;

use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    time::{Duration, Instant},
};

use snapshot::{Address, LoadBalancer, RetryPolicy};

use self::{
    clock::Clock,
    watched::{Watched, answerer},
};
use super::{
    Method, Outcome,
    exchange::{Broken, Exchange, Late, Link, Outgoing, RequestBody, UpstreamVersion, while_wanted},
    head::{ATTEMPT_COUNT, AnswerHead, EXPECTED_TIMEOUT},
    pump::PumpError,
    retries::Retries,
    retry::{self, AttemptProgress},
    routing::Forwarding,
};
use crate::{
    alarm,
    balance::Choice,
    cluster::Retrying,
    connection::Connection,
    dns::ResolvedName,
    failure::LocalReply,
    origin::Origin,
    upstream::{Lease, OwnEnd},
    view::View,
    wrong_tls,
};

/// What a request's tries share.
pub(super) struct Attempts<'a> {
    connection: &'a Connection,
    view: &'a View,
    policy: Option<Retries<'a>>,
    grpc: bool,
    clock: Clock,
    /// Tries after the first.
    again: u32,
    /// Tries that had a connection.
    connected: u32,
    /// Whether the answer is of a further try and not worth another.
    retried_well: bool,
    /// Endpoints not to be asked again while there are others.
    tried: Vec<Address>,
    /// What the request asks for by name, where the cluster has that resolved.
    named: Option<Rc<ResolvedName>>,
    /// Every endpoint asked, where the policy leaves those priorities that have been.
    asked: Vec<Address>,
    /// The place of a further try among those of its cluster, until its answer is there.
    place: Option<Retrying>,
    /// The flag that says why no further try was made, if one was wanted.
    unretried: &'static str,
    /// When the request's head was there.
    begun: Instant,
    /// When the request's body was through, if it was not at once.
    body_ended: Cell<Option<Instant>>,
}

/// Whose answer it is.
#[derive(Clone, Debug)]
pub(super) struct Answerer {
    pub(super) address: Address,
    /// When the whole request was with us; `None` when the answer has come before that.
    pub(super) asked: Option<Instant>,
}

/// Why there is no answer: what the client gets instead, if it is still there, and our end of the last connection.
pub(super) struct Unanswered {
    pub(super) reply: Option<LocalReply<'static>>,
    pub(super) end: Option<Rc<OwnEnd>>,
    /// What the network or TLS said of the last connection.
    pub(super) transport_failure: Option<Box<str>>,
}

impl Unanswered {
    pub(super) fn new(broken: &Broken, end: Option<Rc<OwnEnd>>) -> Self {
        let transport_failure = match broken {
            Broken::Connect(error) => error.transport_failure(),
            _ => None,
        };
        Self { reply: broken.reply(), end, transport_failure }
    }

    /// After more than one try.
    fn retried(self) -> Self {
        Self { reply: self.reply.map(LocalReply::retried), ..self }
    }
}

impl<'a> Attempts<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        view: &'a View,
        forwarding: &Forwarding<'a>,
        (grpc, begun): (bool, Instant),
    ) -> Self {
        let policy = forwarding.retries.clone();
        let one_try = policy.as_ref().and_then(|policy| policy.per_try_timeout);
        let late = if forwarding.by_deadline { Late::Deadline } else { Late::Whole };
        let clock = Clock::new(forwarding.timeout, one_try, late);
        Self {
            connection,
            view,
            policy,
            grpc,
            clock,
            again: 0,
            connected: 0,
            retried_well: false,
            tried: Vec::new(),
            named: forwarding.named.clone(),
            asked: Vec::new(),
            place: None,
            unretried: "",
            begun,
            body_ended: Cell::new(None),
        }
    }

    /// Whether the request's body has to be kept for another try. A connection of HTTP/2 may be on its way out, which
    /// leaves out requests that it has not looked at.
    pub(super) fn keeps_body(&self, version: UpstreamVersion) -> bool {
        version == UpstreamVersion::Http2
            || self.policy.as_ref().is_some_and(|policy| retry::keeps_body(policy, self.grpc))
    }

    /// Notes what the log tells of the tries. `ended` says that the endpoint has got the whole request.
    pub(super) fn tell(
        &self,
        outcome: &mut Outcome<'_>,
        (start, ended, version): (Instant, bool, UpstreamVersion),
    ) {
        let request_time = self.body_ended.get().map_or(Duration::ZERO, |at| at - start);
        outcome.unretried = self.unretried;
        outcome.attempts = self.again + 1;
        outcome.connected = self.connected;
        outcome.retried_well = self.retried_well;
        outcome.request_time = ended.then_some(request_time);
        outcome.upstream_protocol = outcome.own_end.as_ref().map(|_| version.as_str());
    }

    /// When the answer must be through; known once the request is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clock.ends
    }

    /// Asks endpoints until one gives an answer that is not worth another try. `take` gets the head of each answer,
    /// and whom it is from; the last it was given is the one returned.
    pub(super) async fn ask<T>(
        &mut self,
        lease: &mut Lease,
        request: &mut Outgoing<'_>,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&AnswerHead<'_>, Answerer) -> T,
    ) -> Result<(Exchange, T), Unanswered> {
        loop {
            self.clock.begin_try();
            let mut end = None;
            let asked = self.ask_once(lease, request, body, (&mut take, &mut end)).await;
            self.place = None;
            match asked {
                Ok((exchange, answer, false)) => {
                    self.retried_well = self.again > 0;
                    return Ok((exchange, answer));
                }
                Ok((exchange, answer, true)) => {
                    let spared = self.spares(request.method);
                    let again = !spared
                        && self
                            .prepare(lease, request, body, AttemptProgress::MaybeProcessed)
                            .await
                            .map_err(gone(&end))?;
                    if !again {
                        return Ok((exchange, answer));
                    }
                }
                Err(broken) => {
                    let covered =
                        self.policy.as_ref().is_some_and(|policy| retry::covers_failure(policy, &broken));
                    let reached = AttemptProgress::of(&broken);
                    let spared = reached == AttemptProgress::MaybeProcessed && self.spares(request.method);
                    let again = covered
                        && !spared
                        && self.prepare(lease, request, body, reached).await.map_err(gone(&end))?;
                    if !again {
                        let unanswered = Unanswered::new(&broken, end);
                        return Err(if self.again > 0 { unanswered.retried() } else { unanswered });
                    }
                }
            }
        }
    }

    /// Whether the policy leaves out requests of this method once an endpoint may have acted upon them.
    fn spares(&self, method: Method) -> bool {
        method == Method::Other && self.policy.as_ref().is_some_and(|policy| policy.only_idempotent)
    }

    async fn ask_once<T>(
        &mut self,
        lease: &Lease,
        request: &Outgoing<'_>,
        body: &mut impl RequestBody,
        (take, end): (&mut impl FnMut(&AnswerHead<'_>, Answerer) -> T, &mut Option<Rc<OwnEnd>>),
    ) -> Result<(Exchange, T, bool), Broken> {
        let (policy, grpc) = (self.policy.clone(), self.grpc);
        let done = Cell::new(body.is_done());
        let acquiring = pin!(Link::acquire(lease, request.version()));
        let link = self.clock.limit(&done, pin!(while_wanted(body, acquiring))).await??;
        let mut exchange = Exchange::new(
            link.map_err(|error| {
                tracing::debug!(upstream = %lease.address, %error, "cannot connect");
                wrong_tls::tell_if_clear_text(self.connection, lease, &error);
                Broken::Connect(error)
            })?,
            self.connection.worker(),
        );
        self.connected += 1;
        *end = Some(exchange.end());
        let mut watched = Watched { body, done: &done, ended: &self.body_ended };
        let answerer = answerer(lease, (&done, self.begun, &self.body_ended));
        let mut taking = |head: &AnswerHead<'_>| {
            let covered = policy.as_ref().is_some_and(|policy| retry::covers_answer(policy, grpc, head));
            (take(head, answerer()), covered && !head.is_interim())
        };
        let asked = {
            let asking = exchange.ask(request, lease, &mut watched, &mut taking, self.again > 0);
            self.clock.limit(&done, pin!(asking)).await
        };
        let (answer, again) = asked.inspect_err(|late| speak_against(lease, late))??;
        Ok((exchange, answer, again))
    }

    /// The next head of the answer, after an interim one.
    pub(super) async fn next_head<T>(
        &mut self,
        exchange: &mut Exchange,
        (lease, request): (&Lease, &Outgoing<'_>),
        body: &mut impl RequestBody,
        mut take: impl FnMut(&AnswerHead<'_>, Answerer) -> T,
    ) -> Result<T, Broken> {
        let done = Cell::new(body.is_done());
        let mut body = Watched { body, done: &done, ended: &self.body_ended };
        let answerer = answerer(lease, (&done, self.begun, &self.body_ended));
        let taking = |head: &AnswerHead<'_>| take(head, answerer());
        self.clock.limit(&done, pin!(exchange.next_head(request, lease, &mut body, taking))).await?
    }

    /// Gets ready for another try, if there is to be one: not when all are used up, or too many are under way in the
    /// cluster, or the body is lost, or time is up.
    ///
    /// # Errors
    /// Nobody waits for an answer any more.
    async fn prepare(
        &mut self,
        lease: &mut Lease,
        request: &mut Outgoing<'_>,
        body: &mut impl RequestBody,
        reached: AttemptProgress,
    ) -> Result<bool, Broken> {
        let Some(policy) = self.policy.clone() else { return Ok(false) };
        if self.again >= policy.attempts {
            self.unretried = if policy.attempts > 0 { "URX" } else { "" };
            return Ok(false);
        }
        let Ok(place) = self.view.admit_retry(request.cluster, reached == AttemptProgress::MaybeProcessed)
        else {
            self.unretried = "UO";
            return Ok(false);
        };
        let unconnected = reached == AttemptProgress::NotConnected;
        let (another, is_fresh) = self.another(lease, (&policy, request.cluster), unconnected);
        // Another endpoint may be fine; one that was asked before, or others of one that answered badly, get a pause.
        let pause = match unconnected && is_fresh {
            true => Duration::ZERO,
            false => retry::backoff(&policy, self.again + 1, fastrand::u64(..)),
        };
        let in_time = self.clock.ends.is_none_or(|ends| Instant::now() + pause < ends) || pause.is_zero();
        if !(in_time && body.rewind()) {
            return Ok(false);
        }
        if !pause.is_zero() {
            // A request counts once.
            let _uncounted = another.is_some().then(|| lease.uncounted());
            while_wanted(body, pin!(alarm::sleep(pause))).await?;
        }
        // The answer there is goes to the client unless there is another try, and who leaves before it has been asked
        // the last time: until then the lease is of the endpoint that gave the answer.
        self.again += 1;
        if let Some(another) = another {
            lease.move_to(another);
        }
        request.replace_number(ATTEMPT_COUNT, (self.again + 1).into());
        if let Some(left) = self.clock.left() {
            request.replace_number(EXPECTED_TIMEOUT, left);
        }
        self.place = place;
        Ok(true)
    }

    /// The endpoint of the next try, if that is to be another: one not tried yet, if there is one. Consistent hashing
    /// stays at its own as long as that can be connected to. Tells too whether it is one that was not asked yet.
    fn another(
        &mut self,
        lease: &Lease,
        (policy, cluster): (&RetryPolicy, snapshot::ClusterId),
        unconnected: bool,
    ) -> (Option<Lease>, bool) {
        let hashed =
            matches!(self.view.snapshot.cluster(cluster).load_balancer, LoadBalancer::ConsistentHash(_));
        if hashed && !unconnected {
            return (None, false);
        }
        if (policy.avoid_previous_hosts || unconnected) && !self.tried.contains(&lease.address) {
            self.tried.push(lease.address.clone());
        }
        // Its own request would make the endpoint the busier one.
        let _uncounted = lease.uncounted();
        let choice = || Choice { draw: fastrand::u64(..), hash: None };
        let origin = Origin { named: self.named.as_deref(), ..self.connection.origin() };
        if policy.remote_localities {
            self.asked.push(lease.address.clone());
            let elsewhere = retry::leaves_priorities_of(&self.asked);
            if !elsewhere.is_empty()
                && let Some(remote) = self.view.pick_elsewhere(cluster, origin, (choice(), elsewhere))
            {
                return (Some(remote), true);
            }
        }
        let untried = self.view.pick_untried(cluster, origin, choice(), &self.tried);
        let is_fresh = untried.as_ref().is_some_and(|untried| !self.tried.contains(&untried.address));
        (untried.or_else(|| self.view.pick(cluster, origin, choice())), is_fresh)
    }
}

/// The client has left after a try that had this end.
fn gone(end: &Option<Rc<OwnEnd>>) -> impl Fn(Broken) -> Unanswered {
    let end = end.clone();
    move |broken| Unanswered::new(&broken, end.clone())
}

/// Awaits bodies on their way until `deadline`. Borrows the future, which is large: who makes it has room for it anyway.
pub(super) async fn in_time(
    deadline: Option<Instant>,
    moving: Pin<&mut impl Future<Output = Result<(), PumpError>>>,
) -> Result<(), PumpError> {
    match deadline {
        None => moving.await,
        Some(deadline) => alarm::until(deadline, moving).await.unwrap_or(Err(PumpError::Late)),
    }
}

/// An endpoint that let a limit pass counts as one that failed, unless a client chose the limit: otherwise a client who
/// asks for answers within a millisecond could have every endpoint taken from everybody.
fn speak_against(lease: &Lease, broken: &Broken) {
    if !matches!(broken, Broken::Late(Late::Deadline)) {
        lease.timed_out();
    }
}
