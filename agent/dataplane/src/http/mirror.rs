//! Copies of requests for other clusters (`mirrors`), whose answers nobody reads.

use std::{
    future::poll_fn,
    ops::Range,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Instant,
};

use ::http::HeaderMap;
use bytes::Bytes;
use http1::BodyLength;
use snapshot::{ClusterId, Discovery, Forward};

use super::{
    Method,
    exchange::{
        Exchange, Following, Http1Exchange, Link, Outgoing, OutgoingHead, RequestBody, Sent, UpstreamWriter,
    },
    head::AnswerHead,
    pump::{Pump, PumpError},
    retained::Reservation,
};
use crate::{
    alarm,
    balance::Choice,
    bounds,
    connection::Connection,
    dns::{NotResolved, ResolvedName},
    origin::Origin,
    upstream::Lease,
    view::View,
    worker::Worker,
};

/// A whole request, as it went to an endpoint. Mirrors are spoken to in the same version.
#[derive(Clone)]
pub(super) enum MirroredRequest {
    /// Head and body.
    Http1(Vec<u8>),
    Http2(Box<::http::Request<()>>, Bytes, Option<HeaderMap>),
}

impl MirroredRequest {
    /// The host that it is for, before it is marked.
    fn authority(&self) -> &str {
        match self {
            Self::Http1(bytes) => host_in(bytes).and_then(|host| std::str::from_utf8(&bytes[host]).ok()),
            Self::Http2(head, ..) => head.uri().authority().map(::http::uri::Authority::as_str),
        }
        .unwrap_or_default()
    }

    /// Bytes of it that its request decides about.
    fn len(&self) -> usize {
        match self {
            Self::Http1(bytes) => bytes.len(),
            Self::Http2(_, body, _) => body.len(),
        }
    }

    /// With a host that tells that it is a copy.
    fn with_marked_host(mut self) -> Self {
        match &mut self {
            Self::Http1(bytes) => mark_host(bytes),
            Self::Http2(head, ..) => {
                let mut target = head.uri().clone().into_parts();
                let marked = target.authority.as_ref().and_then(|host| marked(host.as_str()).parse().ok());
                target.authority = marked.or(target.authority);
                if let Ok(target) = ::http::Uri::from_parts(target) {
                    *head.uri_mut() = target;
                }
            }
        }
        self
    }
}

/// Where the host is in a head that `write_request_head` has written: it is the first field.
fn host_in(head: &[u8]) -> Option<Range<usize>> {
    const START: &[u8] = b"\r\nhost: ";
    let start = head.windows(START.len()).position(|bytes| bytes == START)? + START.len();
    let len = head[start..].iter().take_while(|byte| **byte != b'\r').count();
    Some(start..start + len)
}

fn mark_host(head: &mut Vec<u8>) {
    let Some(host) = host_in(head) else { return };
    let marked = marked(&String::from_utf8_lossy(&head[host.clone()]));
    head.splice(host, marked.into_bytes());
}

/// As Envoy does it: before the port, if there is one.
fn marked(authority: &str) -> String {
    match snapshot::split_port(authority) {
        (host, Some(port)) => format!("{host}-shadow:{port}"),
        (host, None) => format!("{host}-shadow"),
    }
}

/// Sends copies of a request to the mirrors of its route, each by its share, and does not wait for them.
pub(super) fn send(
    connection: &Connection,
    view: &View,
    policy: &Forward,
    method: Method,
    copied: impl Fn() -> MirroredRequest,
) {
    let worker = connection.worker();
    let limit = policy.timeout.unwrap_or(bounds::COPY_TIME).min(bounds::COPY_TIME);
    for mirror in policy.mirrors.iter().filter(|mirror| mirror.share.takes(fastrand::u64(..))) {
        let Some(cluster) = mirror.target.id else { continue };
        let Ok(named) = named(worker, &view.snapshot.cluster(cluster).discovery, &copied) else { continue };
        let choice = Choice { draw: fastrand::u64(..), hash: None };
        let origin = Origin { named: named.as_deref(), ..connection.origin() };
        let Some(lease) = view.pick(cluster, origin, choice) else { continue };
        let Ok(lease) = lease.admit_request() else { continue };
        if worker.mirroring.get() >= bounds::COPIES {
            worker.count(|counts| counts.dropped_copies += 1);
            continue;
        }
        let copied = copied();
        let Some(share) = worker.bodies.reserve_copy(copied.len()) else {
            worker.count(|counts| counts.dropped_copies += 1);
            continue;
        };
        let lease = lease.for_host(copied.authority());
        let copied = if mirror.marks_host { copied.with_marked_host() } else { copied };
        let copy = Copy { place: Place::new(worker), _reservation: share, lease, cluster, method, copied };
        tokio::task::spawn_local(async move {
            // Whatever becomes of it, nobody waits for it.
            _ = alarm::within(limit, pin!(copy.carry())).await;
        });
    }
}

/// Counts the copies of a request whose body is not there any more: it was too long, or there was no room for it.
pub(super) fn drop_copies(connection: &Connection, policy: &Forward) {
    let mirrors = policy.mirrors.iter().filter(|mirror| mirror.share.takes(fastrand::u64(..)));
    let copies = mirrors.count() as u64;
    connection.worker().count(|counts| counts.dropped_copies += copies);
}

/// What the host of a copy stands for, where the cluster has that resolved.
///
/// # Errors
/// It is not known. That is asked for, and later copies find it: this one does not wait.
fn named(
    worker: &Rc<Worker>,
    discovery: &Discovery,
    copied: &impl Fn() -> MirroredRequest,
) -> Result<Option<Rc<ResolvedName>>, ()> {
    if !matches!(discovery, Discovery::DynamicDns(_)) {
        return Ok(None);
    }
    worker.names.wanted(discovery, copied().authority(), Instant::now()).map_err(|unnamed| {
        if let NotResolved::Unasked(name) = unnamed {
            let worker = Rc::clone(worker);
            tokio::task::spawn_local(async move { worker.names.resolve(&name).await });
        }
    })
}

struct Copy {
    place: Place,
    _reservation: Reservation,
    lease: Lease,
    cluster: ClusterId,
    method: Method,
    copied: MirroredRequest,
}

impl Copy {
    async fn carry(mut self) -> Option<()> {
        let (head, bytes, trailers) = match &mut self.copied {
            MirroredRequest::Http1(bytes) => (OutgoingHead::Http1(bytes), Bytes::new(), None),
            MirroredRequest::Http2(head, body, trailers) => {
                (OutgoingHead::Http2(head), body.clone(), trailers.take())
            }
        };
        let mut body = Body { done: bytes.is_empty() && trailers.is_none(), bytes, trailers };
        let following = if body.done { Following::Nothing } else { Following::Body };
        let request = Outgoing { head, method: self.method, cluster: self.cluster, following };
        let link = Link::acquire(&self.lease, request.version()).await.ok()?;
        let mut exchange = Exchange::new(link, &self.place.0);
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
    trailers: Option<HeaderMap>,
    done: bool,
}

impl RequestBody for Body {
    fn poll_send(&mut self, _: &mut Context<'_>, to: UpstreamWriter<'_>) -> Poll<Result<(), PumpError>> {
        if let (false, UpstreamWriter::Http2(to)) = (self.done, to) {
            self.done = true;
            let sent = to.send_data(self.bytes.clone(), self.trailers.is_none());
            let sent = sent.and_then(|()| match &self.trailers {
                Some(trailers) => to.send_trailers(trailers.clone()),
                None => Ok(()),
            });
            return Poll::Ready(sent.map_err(|_| PumpError::Write));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<PumpError> {
        Poll::Pending
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn rewind(&mut self) -> bool {
        self.done = self.bytes.is_empty() && self.trailers.is_none();
        true
    }

    fn sent(&self) -> Sent<'_> {
        Sent { bytes: &[], trailers: None, ended: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_marked_before_their_port() {
        let mark = |authority: &str| {
            let mut head =
                format!("GET / HTTP/1.1\r\nhost: {authority}\r\nx: 1\r\n\r\n\r\nhost: b").into_bytes();
            mark_host(&mut head);
            String::from_utf8(head).unwrap()
        };
        assert_eq!(mark("a.com"), "GET / HTTP/1.1\r\nhost: a.com-shadow\r\nx: 1\r\n\r\n\r\nhost: b");
        assert!(mark("a.com:8080").contains("\r\nhost: a.com-shadow:8080\r\n"));
        let head = ::http::Request::builder().uri("http://a.com:8080/b?c").body(()).unwrap();
        let copied = MirroredRequest::Http2(Box::new(head), Bytes::new(), None).with_marked_host();
        let MirroredRequest::Http2(head, ..) = copied else { panic!("another version") };
        assert_eq!(head.uri(), "http://a.com-shadow:8080/b?c");
    }
}
