//! The upstream side of one request, shared by both downstream codecs: a connection, the request's head and body on
//! their way up, the heads of the answer on their way back.

mod broken;
mod http1;
mod http2;
mod interim;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use ::http::HeaderMap;
use ::http1::BodyLength;
use bytes::Bytes;
use h2::SendStream;
use snapshot::{ClusterId, UpstreamProtocol};

use super::{
    Method,
    fields::grpc_status,
    head::{AnswerHead, replace_number},
    pump::PumpError,
};
use crate::{
    failure::grpc_to_http,
    health::AttemptResult,
    upstream::{ConnectError, Http2Stream, Lease, OwnEnd, UpstreamConnection, UpstreamStream},
    worker::Worker,
};

pub(super) use self::{
    broken::{Broken, Late, body_end, switched_outcome},
    http1::Http1Exchange,
    http2::Http2Exchange,
};

/// The version spoken to an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UpstreamVersion {
    Http1,
    Http2,
}

impl UpstreamVersion {
    /// As the access log has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    /// What a cluster's endpoints are spoken to with, by a client that speaks `downstream`.
    pub(super) fn of(cluster: UpstreamProtocol, downstream: Self) -> Self {
        match cluster {
            UpstreamProtocol::Http1 => Self::Http1,
            UpstreamProtocol::Http2 => Self::Http2,
            UpstreamProtocol::AsDownstream => downstream,
        }
    }
}

/// A connection to an endpoint, or room on one.
pub(super) enum Link {
    /// In a box: every request moves it about.
    Http1(Box<UpstreamConnection>),
    Http2(Http2Stream),
}

impl Link {
    /// An idle connection to the endpoint, else a new one.
    pub(super) async fn acquire(lease: &Lease, version: UpstreamVersion) -> Result<Self, ConnectError> {
        if version == UpstreamVersion::Http1
            && let Some(idle) = lease.checkout()
        {
            return Ok(Self::Http1(idle));
        }
        Self::open(lease, version).await
    }

    /// A new or, with HTTP/2, perhaps a shared connection to the endpoint.
    async fn open(lease: &Lease, version: UpstreamVersion) -> Result<Self, ConnectError> {
        match version {
            UpstreamVersion::Http1 => lease.connect_or_wait().await.map(Self::Http1),
            UpstreamVersion::Http2 => lease.http2_stream().await.map(Self::Http2),
        }
    }
}

/// Where the body of a request goes.
pub(super) enum UpstreamWriter<'u> {
    Http1(&'u mut UpstreamStream),
    Http2(&'u mut SendStream<Bytes>),
}

/// A request's body on its way up, whatever codec it comes from.
pub(super) trait RequestBody {
    /// Moves as much as both sides allow. Ready when all of it is with the endpoint, or will never be.
    ///
    /// # Errors
    /// The client failed or broke its framing. An endpoint that stops reading is not an error: it may have answered.
    fn poll_send(&mut self, cx: &mut Context<'_>, to: UpstreamWriter<'_>) -> Poll<Result<(), PumpError>>;

    /// Ready when nobody waits for an answer any more: the client has left, or has been silent for too long in the middle
    /// of the body. For while there is nowhere to send to.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<PumpError>;

    /// Whether all of it is with the endpoint.
    fn is_done(&self) -> bool;

    /// Gets ready for being sent to another endpoint, beginning with [`Self::sent`]. False when what has been sent is
    /// lost.
    fn rewind(&mut self) -> bool;

    /// What has been sent, if it was kept.
    fn sent(&self) -> Sent<'_>;
}

/// Awaits something that a request needs, for as long as somebody waits for its answer. Borrows the future, which is
/// large: who makes it has room for it anyway.
pub(super) async fn while_wanted<F: Future>(
    body: &mut impl RequestBody,
    mut future: Pin<&mut F>,
) -> Result<F::Output, Broken> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => body.poll_gone(cx).map(|gone| Err(gone.into())),
    })
    .await
}

/// What has been sent of a request's body.
pub(super) struct Sent<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) trailers: Option<&'b HeaderMap>,
    /// Whether that is all of it.
    pub(super) ended: bool,
}

/// A request as it is sent.
pub(super) struct Outgoing<'o> {
    pub(super) head: OutgoingHead<'o>,
    pub(super) method: Method,
    pub(super) cluster: ClusterId,
    pub(super) following: Following,
}

/// What follows the head of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Following {
    /// Nothing: the head is all there is to repeat.
    Nothing,
    Body,
    /// Bytes of another protocol, once the endpoint has agreed on it.
    Protocol,
}

impl Following {
    /// After the head of a request with or without a body.
    pub(super) fn of(body: BodyLength) -> Self {
        if body.is_empty() { Self::Nothing } else { Self::Body }
    }
}

/// A request's head in the version of the endpoint.
pub(super) enum OutgoingHead<'o> {
    /// Head, and perhaps the first bytes of the body.
    Http1(&'o mut Vec<u8>),
    Http2(&'o mut ::http::Request<()>),
}

impl Outgoing<'_> {
    pub(super) fn version(&self) -> UpstreamVersion {
        match self.head {
            OutgoingHead::Http1(_) => UpstreamVersion::Http1,
            OutgoingHead::Http2(_) => UpstreamVersion::Http2,
        }
    }

    /// Puts another number into a field that is in the head.
    pub(super) fn replace_number(&mut self, name: &'static str, number: u64) {
        match &mut self.head {
            OutgoingHead::Http1(head) => replace_number(head, name, number),
            OutgoingHead::Http2(head) => {
                if let Some(value) = head.headers_mut().get_mut(name) {
                    *value = number.into();
                }
            }
        }
    }
}

/// An exchange with an endpoint under way.
pub(super) enum Exchange {
    Http1(Http1Exchange),
    Http2(Http2Exchange),
}

impl Exchange {
    pub(super) fn new(link: Link, worker: &Worker) -> Self {
        match link {
            Link::Http1(connection) => Self::Http1(Http1Exchange::new(connection, worker)),
            Link::Http2(stream) => Self::Http2(Http2Exchange::new(stream)),
        }
    }

    /// Our end of the connection.
    pub(super) fn end(&self) -> Rc<OwnEnd> {
        match self {
            Self::Http1(exchange) => Rc::clone(&exchange.upstream.end),
            Self::Http2(exchange) => Rc::clone(exchange.end()),
        }
    }

    /// Awaits `passing_on`, which passes an interim answer on. What the endpoint sends meanwhile stays bounded.
    pub(super) async fn meanwhile<T>(&mut self, passing_on: impl Future<Output = T>) -> T {
        let mut passing_on = pin!(passing_on);
        poll_fn(|cx| {
            let passed_on = passing_on.as_mut().poll(cx);
            if let (Poll::Pending, Self::Http2(exchange)) = (&passed_on, &mut *self) {
                exchange.gather(cx);
            }
            passed_on
        })
        .await
    }

    /// Whether what has been sent of the body before is still on its way, so that it must be kept.
    pub(super) fn is_repeating(&self) -> bool {
        matches!(self, Self::Http1(exchange) if exchange.is_repeating())
    }

    fn is_reused(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.upstream.reused,
            Self::Http2(exchange) => exchange.is_reused(),
        }
    }

    /// Writes the request and gives the first head of the answer to `take`. `again` says that it has been sent before,
    /// so that what has left of its body goes first.
    ///
    /// An idle connection may be closed by its server just as the request leaves. When nothing was answered and
    /// asking again does no harm, another connection is tried, once.
    pub(super) async fn ask<T>(
        &mut self,
        request: &Outgoing<'_>,
        lease: &Lease,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&AnswerHead<'_>) -> T,
        again: bool,
    ) -> Result<T, Broken> {
        let result = self.send(request, lease, (body, again), &mut take).await;
        let harmless = match &result {
            Err(Broken::Closed) => self.is_reused() && request.method != Method::Other,
            // The connection goes, the endpoint does not. One that refuses streams is the policy's matter: it may be as busy
            // as it can be.
            Err(Broken::LeftOut) => true,
            _ => false,
        };
        if !(harmless && body.rewind()) {
            return result;
        }
        while_wanted(body, pin!(self.reconnect(lease))).await?.map_err(Broken::Connect)?;
        self.send(request, lease, (body, true), take).await
    }

    async fn reconnect(&mut self, lease: &Lease) -> Result<(), ConnectError> {
        match self {
            Self::Http1(exchange) => lease.replace(&mut exchange.upstream).await?,
            Self::Http2(exchange) => {
                // Its place among the connections of its cluster may be the one that is waited for.
                exchange.let_go();
                *exchange = Http2Exchange::new(lease.http2_stream().await?);
            }
        }
        Ok(())
    }

    async fn send<T>(
        &mut self,
        request: &Outgoing<'_>,
        lease: &Lease,
        (body, again): (&mut impl RequestBody, bool),
        take: impl FnMut(&AnswerHead<'_>) -> T,
    ) -> Result<T, Broken> {
        match (&mut *self, &request.head) {
            (Self::Http1(exchange), OutgoingHead::Http1(head)) => {
                lease.count_request();
                exchange.write(head, body, again).await?;
            }
            (Self::Http2(exchange), OutgoingHead::Http2(head)) => {
                // One that the endpoint is not asked for does not count.
                exchange.send(head, request.following)?;
                lease.count_request();
                if again && request.following == Following::Body {
                    exchange.send_again(&body.sent())?;
                }
            }
            // Head and connection are made for the same version.
            _ => return Err(Broken::Protocol),
        }
        self.next_head(request, lease, body, take).await
    }

    /// Reads the next head of the answer while the rest of the request's body goes up, and gives it to `take`: all
    /// that borrows from its bytes begins and ends there.
    pub(super) async fn next_head<T>(
        &mut self,
        request: &Outgoing<'_>,
        lease: &Lease,
        body: &mut impl RequestBody,
        mut take: impl FnMut(&AnswerHead<'_>) -> T,
    ) -> Result<T, Broken> {
        let taking = |head: &AnswerHead<'_>| {
            if !head.is_interim() {
                lease.observe(AttemptResult::Answered(standing_for(head)));
            }
            take(head)
        };
        let result = match self {
            Self::Http1(exchange) => exchange.next_head(request.method, body, taking).await,
            Self::Http2(exchange) => exchange.next_head(request.method, body, taking).await,
        };
        match &result {
            // An idle connection ends when its server likes; that says nothing about the endpoint.
            Err(Broken::Closed) if self.is_reused() => {}
            Err(Broken::Closed | Broken::Reset | Broken::Protocol) => {
                lease.observe(AttemptResult::LocalFailure);
            }
            Ok(_) | Err(_) => {}
        }
        result
    }
}

/// The status that an answer speaks of its endpoint's health with: that of a gRPC call that failed without a message
/// is in its head, as in Envoy.
fn standing_for(head: &AnswerHead<'_>) -> u16 {
    match head {
        AnswerHead::Http2 { status: 200, fields, .. } => grpc_status(fields).map_or(200, grpc_to_http),
        head => head.status(),
    }
}
