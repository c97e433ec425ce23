//! Copies of requests for other clusters (`mirrors`), whose answers nobody reads.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http1::BodyLength;
use snapshot::{ClusterId, Forward};

use super::{
    Method,
    exchange::{Exchange, Http1Exchange, Link, Outgoing, OutgoingHead, RequestBody, Sent, Uplink},
    head::AnswerHead,
    pump::{Pump, PumpError},
};
use crate::{balance::Choice, connection::Connection, upstream::Lease, view::View, worker::Worker};

/// Copies under way in one worker; further requests are not copied. It bounds what slow mirrors can make us hold.
const MAX_COPIES: usize = 256;
/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A whole request, as it went to an endpoint. Mirrors are spoken to in the same version.
#[derive(Clone)]
pub(super) enum Copied {
    /// Head and body.
    Http1(Vec<u8>),
    Http2(Box<::http::Request<()>>, Bytes),
}

/// Sends copies of a request to the mirrors of its route, each by its share, and does not wait for them.
pub(super) fn send(
    connection: &Connection,
    view: &View,
    policy: &Forward,
    method: Method,
    copied: impl Fn() -> Copied,
) {
    let worker = connection.worker();
    for mirror in policy.mirrors.iter().filter(|mirror| mirror.share.takes(fastrand::u64(..))) {
        let choice = Choice { draw: fastrand::u64(..), hash: None };
        let picked = mirror.target.id.and_then(|id| Some((id, view.pick(id, connection.origin(), choice)?)));
        let Some((cluster, lease)) = picked else { continue };
        let Ok(lease) = lease.admit_request() else { continue };
        if worker.mirroring.get() >= MAX_COPIES {
            return;
        }
        let copy = Copy { place: Place::new(worker), lease, cluster, method, copied: copied() };
        tokio::task::spawn_local(async move {
            // Whatever becomes of it, nobody waits for it.
            _ = tokio::time::timeout(LIMIT, copy.carry()).await;
        });
    }
}

struct Copy {
    place: Place,
    lease: Lease,
    cluster: ClusterId,
    method: Method,
    copied: Copied,
}

impl Copy {
    async fn carry(mut self) -> Option<()> {
        let (head, body) = match &mut self.copied {
            Copied::Http1(bytes) => (OutgoingHead::Http1(bytes), Bytes::new()),
            Copied::Http2(head, body) => (OutgoingHead::Http2(head), body.clone()),
        };
        let mut body = Body { done: body.is_empty(), bytes: body };
        let (method, cluster, bodiless) = (self.method, self.cluster, body.done);
        let request = Outgoing { head, method, cluster, bodiless };
        let link = Link::acquire(&self.lease, request.version()).await.ok()?;
        let mut exchange = Exchange::new(link, &self.place.0.buffers);
        let take = |head: &AnswerHead<'_>| (head.is_interim(), head.body(), head.keep_alive());
        let mut answer = exchange.ask(&request, &self.lease, &mut body, take, false).await.ok()?;
        while answer.0 {
            answer = exchange.next_head(&request, &self.lease, &mut body, take).await.ok()?;
        }
        // An HTTP/2 stream just ends; a connection of its own is of use again when the answer is through.
        if let (Exchange::Http1(exchange), (_, length, true)) = (exchange, answer) {
            self.discard(exchange, length).await?;
        }
        Some(())
    }

    async fn discard(&self, mut exchange: Http1Exchange, length: BodyLength) -> Option<()> {
        let pool = &self.place.0.buffers;
        let mut answered = exchange.answered.take().unwrap_or_else(|| pool.small());
        let mut rest = Pump::new(length, BodyLength::UntilClose);
        let stream = &mut exchange.upstream.stream;
        let mut nowhere = tokio::io::sink();
        poll_fn(|cx| rest.poll(cx, (&mut answered, pool), stream, &mut nowhere)).await.ok()?;
        exchange.answered = Some(answered);
        exchange.release(&self.lease);
        Some(())
    }
}

/// A place among the copies under way.
struct Place(Rc<Worker>);

impl Place {
    fn new(worker: &Rc<Worker>) -> Self {
        worker.mirroring.set(worker.mirroring.get() + 1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirroring.set(self.0.mirroring.get() - 1);
    }
}

/// A body that is all there.
struct Body {
    bytes: Bytes,
    done: bool,
}

impl RequestBody for Body {
    fn poll_send(&mut self, _: &mut Context<'_>, to: Uplink<'_>) -> Poll<Result<(), PumpError>> {
        if let (false, Uplink::Http2(to)) = (self.done, to) {
            self.done = true;
            return Poll::Ready(to.send_data(self.bytes.clone(), true).map_err(|_| PumpError::Write));
        }
        Poll::Ready(Ok(()))
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn rewind(&mut self) -> bool {
        self.done = self.bytes.is_empty();
        true
    }

    fn sent(&self) -> Sent<'_> {
        Sent { bytes: &[], trailers: None, ended: false }
    }
}
