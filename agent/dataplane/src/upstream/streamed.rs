//! Tunnels through proxies that speak HTTP/2: each opaque connection is a stream of a connection that it shares.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Instant,
};

use ::http::{Method, Request, Response, Uri, Version, uri};
use bytes::Bytes;
use h2::{RecvStream, SendStream, client::ResponseFuture};
use snapshot::{Tunnel, TunnelMethod};

use super::{ConnectError, Http2Stream, Lease, OwnEnd, tunnel::MOST_INTERIM};
use crate::{
    alarm,
    health::AttemptResult,
    http::StreamBytes,
    shared::{Permit, Resource},
};

/// An open tunnel.
pub(crate) struct TunnelStream {
    pub(crate) bytes: StreamBytes<SendStream<Bytes>, RecvStream>,
    /// Its place on the connection.
    room: Http2Stream,
    /// Its place among the requests of a cluster that counts them.
    _request: Option<Permit>,
}

/// Why a proxy that was asked has opened no tunnel.
enum Unopened {
    /// It has not looked at the request: to ask again does no harm.
    Unseen(ConnectError),
    Refused(ConnectError),
}

impl Unopened {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(ConnectError::TunnelRefused(why.into()))
    }
}

/// How often an endpoint is asked anew where the connection that was to be shared turns out to have ended.
const ASKED_AGAIN: usize = 3;

impl TunnelStream {
    /// Asks the endpoint for the far end. All of it takes no longer than a connection may take to come about.
    ///
    /// # Errors
    /// There is no connection to it, the cluster has as many requests as it may, or it does not consent.
    pub(super) async fn open(lease: &Lease, tunnel: &Tunnel) -> Result<Self, ConnectError> {
        let policy = lease.policy();
        let request = policy.admit(Resource::Requests).map_err(|_| ConnectError::Overflow)?;
        let deadline = Instant::now() + policy.connect_timeout;
        let mut asked = 0;
        loop {
            let connected = alarm::until(deadline, pin!(lease.http2_stream())).await;
            let room = connected.map_err(|_| ConnectError::Timeout)?.map_err(not_http2)?;
            asked += 1;
            let opened = {
                let asking = pin!(ask(&room, tunnel));
                alarm::until(deadline, asking).await
            };
            let error = match opened {
                Ok(Ok((to, from))) => {
                    return Ok(Self { bytes: StreamBytes::new(to, from), room, _request: request });
                }
                Ok(Err(Unopened::Unseen(_))) if room.reused && asked <= ASKED_AGAIN => continue,
                Ok(Err(Unopened::Unseen(error) | Unopened::Refused(error))) => error,
                Err(_) => ConnectError::Timeout,
            };
            lease.observe(AttemptResult::LocalFailure);
            return Err(error);
        }
    }

    /// Our end of the connection.
    pub(crate) fn end(&self) -> &Rc<OwnEnd> {
        self.room.end()
    }
}

/// For who dials there is no request that could be answered.
fn not_http2(error: ConnectError) -> ConnectError {
    match error {
        ConnectError::NotHttp2(why) => ConnectError::TunnelRefused(format!("not HTTP/2: {why}")),
        other => other,
    }
}

async fn ask(room: &Http2Stream, tunnel: &Tunnel) -> Result<(SendStream<Bytes>, RecvStream), Unopened> {
    let head = head(tunnel, room.end().session.is_some());
    let head = head.ok_or_else(|| Unopened::refused("HTTP/2 cannot carry the name"))?;
    let (response, to) = room.send(head, false).map_err(|error| unopened(&error))?;
    let answer = answer(response).await?;
    match answer.status().as_u16() {
        200..=299 => Ok((to, answer.into_body())),
        status => Err(Unopened::Refused(ConnectError::TunnelAnswered(status))),
    }
}

/// As Envoy 1.40 asks: a CONNECT names no more than the far end (RFC 9113 §8.5).
fn head(Tunnel { far_end, method }: &Tunnel, is_over_tls: bool) -> Option<Request<()>> {
    let mut target = uri::Parts::default();
    target.authority = Some(far_end.parse().ok()?);
    let mut head = Request::new(());
    *head.method_mut() = match method {
        TunnelMethod::Connect => Method::CONNECT,
        TunnelMethod::Post => {
            target.scheme = Some(if is_over_tls { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
            target.path_and_query = Some(uri::PathAndQuery::from_static("/"));
            Method::POST
        }
    };
    *head.uri_mut() = Uri::from_parts(target).ok()?;
    *head.version_mut() = Version::HTTP_2;
    Some(head)
}

/// The final answer; interim ones are dropped as they come.
async fn answer(mut response: ResponseFuture) -> Result<Response<RecvStream>, Unopened> {
    let mut interim = 0;
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(_))) = response.poll_informational(cx) {
            interim += 1;
            if interim > MOST_INTERIM {
                return Poll::Ready(Err(Unopened::refused("interim answers without end")));
            }
        }
        Pin::new(&mut response).poll(cx).map_err(|error| unopened(&error))
    })
    .await
}

fn unopened(error: &h2::Error) -> Unopened {
    let why = match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => "it refused the stream",
        // A GOAWAY ends only streams that the peer has not looked at (RFC 9113 §6.8).
        _ if error.is_go_away() && error.is_remote() => "it ends the connection",
        Some(reason) if error.is_remote() => {
            return Unopened::refused(format!("it reset the stream: {reason}"));
        }
        Some(reason) => return Unopened::refused(format!("an answer that is not HTTP/2: {reason}")),
        None => "it closed the connection",
    };
    Unopened::Unseen(ConnectError::TunnelRefused(why.to_owned()))
}
