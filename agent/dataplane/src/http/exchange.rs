//! The upstream side of one request, shared by both downstream codecs: a connection, the request's head and body on
//! their way up, the heads of the answer on their way back.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http1::{BodyError, HeadEnd, HeaderSlots, Response};
use snapshot::ClusterId;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{LIMITS, Method, Outcome, pump::PumpError};
use crate::{
    buffer::{BufferPool, PooledBuffer},
    connection::Connection,
    failure::LocalReply,
    upstream::{ConnectError, Lease, UpstreamConnection},
    view::View,
};

/// Connections tried for one request (Istio's default `retries.attempts: 2` for connect failures).
const ATTEMPTS: usize = 3;

/// A connection to the endpoint of `lease`: an idle one, else a new one; when that fails, to another endpoint of the
/// cluster, which `lease` then stands for.
pub(super) async fn acquire(
    connection: &Connection,
    view: &View,
    cluster: ClusterId,
    lease: &mut Lease,
) -> Result<UpstreamConnection, LocalReply<'static>> {
    if let Some(idle) = lease.checkout() {
        return Ok(idle);
    }
    let mut tried = Vec::new();
    loop {
        let error = match lease.connect().await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        tracing::debug!(upstream = %lease.address, %error, "cannot connect");
        tried.push(lease.address);
        let another = view.pick_untried(cluster, connection.destination, fastrand::u64(..), &tried);
        match another.filter(|_| tried.len() < ATTEMPTS) {
            Some(another) => *lease = another,
            None => return Err(LocalReply::connect_failed(&error)),
        }
    }
}

/// A request's body on its way up, whatever codec it comes from.
pub(super) trait RequestBody {
    /// Moves as much as both sides allow. Ready when all of it is with the endpoint, or will never be.
    ///
    /// # Errors
    /// The client failed or broke its framing. An endpoint that stops reading is not an error: it may have answered.
    fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<Result<(), PumpError>>;

    /// Whether all of it is with the endpoint.
    fn is_done(&self) -> bool;
}

/// A request as it is sent.
pub(super) struct Outgoing<'o> {
    /// Head, and perhaps the first bytes of the body.
    pub(super) head: &'o [u8],
    pub(super) method: Method,
    /// Whether there is no body, so that the head is all there is to repeat.
    pub(super) bodiless: bool,
    pub(super) start: Instant,
}

impl Outgoing<'_> {
    /// Milliseconds since the request's head had arrived.
    pub(super) fn service_time(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// An exchange with an endpoint under way.
pub(super) struct Exchange {
    pub(super) upstream: UpstreamConnection,
    /// What the endpoint has answered and nobody has taken.
    pub(super) answered: PooledBuffer,
    pool: Rc<BufferPool>,
}

/// What ended an exchange before the head of the answer.
pub(super) enum Broken {
    /// The client is gone.
    Downstream,
    /// The client's body breaks its framing.
    Body,
    /// The endpoint closed without a byte of an answer.
    Closed,
    /// The endpoint's answer is not HTTP.
    Protocol,
    /// No fresh connection after a stale one.
    Connect(ConnectError),
}

impl Exchange {
    pub(super) fn new(upstream: UpstreamConnection, pool: &Rc<BufferPool>) -> Self {
        Self { upstream, answered: pool.small(), pool: Rc::clone(pool) }
    }

    /// Writes the request and gives the first head of the answer to `take`.
    ///
    /// An idle connection may be closed by its server just as the request leaves. When nothing was answered and
    /// asking again does no harm, a fresh connection is tried, once.
    pub(super) async fn ask<T>(
        &mut self,
        request: &Outgoing<'_>,
        lease: &Lease,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&Response<'_, '_>) -> T,
    ) -> Result<T, Broken> {
        // An endpoint that stops reading may have answered; what reading says counts.
        _ = self.upstream.stream.write_all(request.head).await;
        let result = self.next_head(request, body, &mut take).await;
        let harmless = request.bodiless && request.method != Method::Other;
        if !(matches!(result, Err(Broken::Closed)) && self.upstream.reused && harmless) {
            return result;
        }
        self.upstream = lease.connect().await.map_err(Broken::Connect)?;
        _ = self.upstream.stream.write_all(request.head).await;
        self.next_head(request, body, take).await
    }

    /// Reads the next head of the answer while the rest of the request's body goes up, and gives it to `take`: all
    /// that borrows from its bytes begins and ends there.
    pub(super) async fn next_head<T>(
        &mut self,
        request: &Outgoing<'_>,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&Response<'_, '_>) -> T,
    ) -> Result<T, Broken> {
        let mut head_end = HeadEnd::default();
        loop {
            if head_end.find(self.answered.filled(), &LIMITS) {
                let mut slots = HeaderSlots::new();
                let method = request.method.name_for_framing();
                let parsed = http1::parse_response(self.answered.filled(), &LIMITS, method, &mut slots);
                if let Some(response) = parsed.map_err(|_| Broken::Protocol)? {
                    let (taken, head_len) = (take(&response), response.head_len);
                    self.answered.consume(head_len);
                    return Ok(taken);
                }
            }
            self.fill(body).await?;
        }
    }

    async fn fill(&mut self, body: &mut impl RequestBody) -> Result<(), Broken> {
        if self.answered.is_full() && self.answered.is_small() {
            self.answered = self.pool.enlarge(&self.answered);
        }
        poll_fn(|cx| {
            let stream = &mut self.upstream.stream;
            if let Poll::Ready(Err(error)) = body.poll_send(cx, stream) {
                return Poll::Ready(Err(Broken::from(error)));
            }
            match ready!(self.answered.poll_fill(cx, stream)) {
                Ok(1..) => Poll::Ready(Ok(())),
                Ok(0) | Err(_) if self.answered.is_empty() => Poll::Ready(Err(Broken::Closed)),
                Ok(0) | Err(_) => Poll::Ready(Err(Broken::Protocol)),
            }
        })
        .await
    }

    /// Keeps the connection for another request if nothing more is to come on it.
    pub(super) fn release(self, lease: &Lease, reusable: bool) {
        if reusable && self.answered.is_empty() {
            lease.give_back(self.upstream);
        }
    }
}

impl Broken {
    /// The answer to give in the endpoint's place; none when nobody is there to get it.
    pub(super) fn reply(&self) -> Option<LocalReply<'static>> {
        match self {
            Self::Downstream => None,
            Self::Body => Some(LocalReply::BAD_REQUEST),
            Self::Closed => Some(LocalReply::UPSTREAM_CLOSED),
            Self::Protocol => Some(LocalReply::UPSTREAM_PROTOCOL_ERROR),
            Self::Connect(error) => Some(LocalReply::connect_failed(error)),
        }
    }
}

impl From<PumpError> for Broken {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Read | PumpError::Body(BodyError::Truncated) => Self::Downstream,
            PumpError::Body(_) => Self::Body,
            PumpError::Write => Self::Closed,
        }
    }
}

/// How the log tells of a body that did not arrive whole, and of one that did.
pub(super) fn body_outcome(moved: Result<(), PumpError>) -> Outcome<'static> {
    let (flags, details) = match moved {
        Ok(()) => ("", "via_upstream"),
        Err(PumpError::Write) => ("DC", "downstream_remote_disconnect"),
        Err(PumpError::Read | PumpError::Body(_)) => {
            ("UC", "upstream_reset_after_response_started{connection_termination}")
        }
    };
    Outcome { flags, details, ..Outcome::default() }
}
