//! How long a request and its answer may stand still, and take, by what their listener says
//! (`ProxyConfig.connectionSettings`).

use std::time::{Duration, Instant};

use super::pump::PumpError;
use crate::{connection::Connection, failure::LocalReply, timer::Deadline};

/// Limits of time of one request, which has begun when they are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    /// How long a body may stand still.
    idle: Duration,
    /// How long there may be no answer.
    waiting: Option<Duration>,
    /// When all of the request must be there, unless its answer has begun.
    request_ends: Option<Instant>,
    /// When request and answer must be through.
    ends: Option<Instant>,
}

/// Where a request stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// It is still coming.
    Sending,
    /// It is there, and no answer is.
    Waiting,
    /// Its answer has begun.
    Answering,
}

/// A limit of the listener that has passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Overdue {
    /// The request has not arrived in time.
    Request,
    /// Nothing has come of an answer for too long.
    Answer,
    /// Request and answer have taken too long; whether the request was there.
    Stream { is_whole: bool },
}

impl Overdue {
    /// The answer to give.
    pub(super) fn reply(self) -> LocalReply<'static> {
        match self {
            Self::Request => LocalReply::REQUEST_TIMEOUT,
            Self::Answer => LocalReply::ANSWER_TIMEOUT,
            Self::Stream { is_whole: true } => LocalReply::STREAM_EXPIRED,
            Self::Stream { is_whole: false } => LocalReply { status: 408, ..LocalReply::STREAM_EXPIRED },
        }
    }
}

impl StreamLimits {
    pub(super) fn begin(connection: &Connection) -> Self {
        let limits = &connection.settings.limits;
        // The clock is read only for who has limits.
        let ends = |limit: Option<Duration>| limit.and_then(|limit| Instant::now().checked_add(limit));
        Self {
            idle: connection.stream_idle_timeout(),
            waiting: limits.stream_idle_timeout,
            request_ends: ends(limits.request_timeout),
            ends: ends(limits.max_stream_duration),
        }
    }

    /// Whether there is a limit while no answer is there.
    pub(super) fn limits_waiting(&self) -> bool {
        self.waiting.is_some() || self.ends.is_some()
    }

    /// How long it may stand as it does, from now on.
    pub(super) fn idle_timeout(&self, phase: Phase) -> Duration {
        let still = match phase {
            Phase::Sending | Phase::Answering => self.idle,
            Phase::Waiting => self.waiting.unwrap_or(Duration::MAX),
        };
        let request_ends = self.request_ends.filter(|_| phase == Phase::Sending);
        match request_ends.into_iter().chain(self.ends).min() {
            None => still,
            Some(ends) => still.min(ends.saturating_duration_since(Instant::now())),
        }
    }

    /// What it means that this time is over.
    pub(super) fn passed(&self, phase: Phase) -> PumpError {
        let now = Instant::now();
        let is_over = |limit: Option<Instant>| limit.is_some_and(|ends| ends <= now);
        match phase {
            _ if is_over(self.ends) => {
                PumpError::Overdue(Overdue::Stream { is_whole: phase != Phase::Sending })
            }
            Phase::Sending if is_over(self.request_ends) => PumpError::Overdue(Overdue::Request),
            Phase::Waiting => PumpError::Overdue(Overdue::Answer),
            Phase::Sending | Phase::Answering => PumpError::Idle,
        }
    }

    /// What it means that the deadline of an answer has passed.
    pub(super) fn answering_ended(&self, deadline: &Deadline) -> PumpError {
        if deadline.is_given_up() { PumpError::Untaken } else { self.passed(Phase::Answering) }
    }

    /// How long the head may take that has `limit`, and the answer when it takes longer. Bytes of a head are no progress.
    pub(super) fn head(&self, limit: Duration) -> (Duration, LocalReply<'static>) {
        let still = self.waiting.unwrap_or(Duration::MAX);
        let of_all = self.request_ends.into_iter().chain(self.ends).min();
        let left = of_all.map_or(Duration::MAX, |ends| ends.saturating_duration_since(Instant::now()));
        let first = limit.min(still).min(left);
        let reply = if first == limit {
            LocalReply::HEAD_TIMEOUT
        } else if first == still {
            LocalReply::STREAM_TIMEOUT
        } else if of_all == self.request_ends {
            LocalReply::REQUEST_TIMEOUT
        } else {
            Overdue::Stream { is_whole: false }.reply().for_client(false)
        };
        (first, reply)
    }

    /// How long what is left of it may take, if that is limited.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(self.ends?.saturating_duration_since(Instant::now()))
    }
}
