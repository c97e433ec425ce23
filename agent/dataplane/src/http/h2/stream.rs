//! One HTTP/2 stream: a request, its answer, and the line about it in the access log.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Instant,
};

use ::http::request::Parts;
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http1::{BodyLength, Response};
use snapshot::{NoRoute, RequestHead};
use tokio::net::TcpStream;

use super::head::{Answer, Http2Head, body_length, local_head};
use crate::{
    access_log::RequestLine,
    connection::Connection,
    failure::LocalReply,
    http::{
        Action, Method, Outcome, Routed, SWITCHING_PROTOCOLS,
        exchange::{Broken, Exchange, Outgoing, RequestBody, acquire, body_outcome},
        frames::{BytesToFrames, FramesToBytes},
        head::{Added, AnswerFields, write_request_head},
        log,
        pump::PumpError,
        record_request, route,
    },
    upstream::Lease,
    view::View,
};

/// How a stream ended, as far as its connection cares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    Answered,
    /// The client took it back before it had the whole answer.
    Reset,
}

/// Serves one request.
pub(super) async fn serve(
    connection: &Connection,
    request: ::http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> Ended {
    let start = Instant::now();
    let worker = connection.worker();
    worker.count(|counts| counts.requests += 1);
    let (parts, body) = request.into_parts();
    let view = worker.view();
    let mut line = RequestLine::default();
    let mut out = worker.scratch();
    let length = body_length(&parts.headers, body.is_end_stream());
    let routed = match Http2Head::new(&parts) {
        Ok(head) => {
            let added = Added::new(connection, &head);
            if worker.log.is_some() {
                record_request(&mut line, &head, "HTTP/2", &added);
            }
            let routed = route_head(connection, &view, &parts, &head);
            if let Action::Forward(..) = routed.action {
                write_request_head(&mut out, &head, &added, length, None);
            }
            routed
        }
        Err(reply) => Routed::reply(reply),
    };
    let (cluster, route) = (routed.cluster, routed.route);
    let mut stream = Stream { connection, respond, start, method: Method::of(parts.method.as_str()) };
    let outcome = match routed.action {
        Action::Reply(reply) => stream.reply(&reply),
        Action::Redirect(location) => {
            let Outcome { status, details, .. } = stream.reply(&LocalReply::moved(&location));
            Outcome { status, details, ..Outcome::default() }
        }
        Action::Forward(lease, id) => {
            let upload = FramesToBytes::new(body, length);
            let mut forward = Forward { view: &view, cluster: id, lease, upload, length };
            stream.forward(&mut forward, &mut out).await
        }
    };
    worker.recycle(out);
    log(connection, start, &line, &Outcome { cluster, route, ..outcome });
    if outcome.flags == CLIENT_GONE { Ended::Reset } else { Ended::Answered }
}

const CLIENT_GONE: &str = LocalReply::CLIENT_GONE.flags;

fn route_head<'v>(
    connection: &Connection,
    view: &'v View,
    parts: &Parts,
    head: &impl RequestHead,
) -> Routed<'v> {
    match connection.route_config(view) {
        Some(config) if parts.method != ::http::Method::CONNECT => {
            route(head, view, config, (connection, fastrand::u64(..)))
        }
        _ => Routed::reply(LocalReply::no_route(NoRoute::Route)),
    }
}

struct Stream<'c> {
    connection: &'c Connection,
    respond: SendResponse<Bytes>,
    start: Instant,
    method: Method,
}

/// A request and the endpoint picked for it.
struct Forward<'v> {
    view: &'v View,
    cluster: snapshot::ClusterId,
    lease: Lease,
    upload: FramesToBytes,
    length: BodyLength,
}

/// A request's body in HTTP/2 frames, and the sign that the client wants no answer any more.
struct Sending<'s> {
    upload: &'s mut FramesToBytes,
    respond: &'s mut SendResponse<Bytes>,
    abandoned: bool,
}

impl RequestBody for Sending<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<Result<(), PumpError>> {
        if self.respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(PumpError::Read));
        }
        if self.abandoned {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.upload.poll(cx, to)) {
            Err(PumpError::Write) => {
                self.abandoned = true;
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result),
        }
    }

    fn is_done(&self) -> bool {
        self.upload.is_done()
    }
}

impl Stream<'_> {
    /// Sends the request to its endpoint and the answer to the client. `head` is the request's head as it goes up.
    async fn forward(&mut self, forward: &mut Forward<'_>, head: &mut Vec<u8>) -> Outcome<'static> {
        let acquired = acquire(self.connection, forward.view, forward.cluster, &mut forward.lease).await;
        let mut exchange = match acquired {
            Ok(upstream) => Exchange::new(upstream, &self.connection.worker().buffers),
            Err(reply) => return self.reply(&reply).at(&forward.lease, None),
        };
        let result = match poll_fn(|cx| Poll::Ready(forward.upload.stage(cx, head))).await {
            Ok(()) => self.ask(forward, &mut exchange, head).await,
            Err(error) => Err(Broken::from(error)),
        };
        let outcome = Outcome::default().at(&forward.lease, Some(&exchange.upstream));
        match result {
            Ok(answer) => self.finish(forward, exchange, answer, outcome).await,
            Err(broken) => {
                let Outcome { status, flags, details, sent, .. } = match broken.reply() {
                    Some(reply) => self.reply(&reply),
                    None => Outcome::reply(&LocalReply::CLIENT_GONE),
                };
                Outcome { status, flags, details, sent, ..outcome }
            }
        }
    }

    /// Asks the endpoint; passes interim answers on and returns the final one.
    async fn ask(
        &mut self,
        forward: &mut Forward<'_>,
        exchange: &mut Exchange,
        head: &[u8],
    ) -> Result<Answer, Broken> {
        let fields = AnswerFields::of(self.connection);
        let request =
            Outgoing { head, method: self.method, bodiless: forward.length.is_empty(), start: self.start };
        let mut body = Sending { upload: &mut forward.upload, respond: &mut self.respond, abandoned: false };
        let mut take = |response: &Response<'_, '_>| Answer::new(response, &request, &fields);
        let mut answer = exchange.ask(&request, &forward.lease, &mut body, &mut take).await?;
        while answer.interim {
            body.respond.send_informational(answer.head()).map_err(|_| Broken::Downstream)?;
            answer = exchange.next_head(&request, &mut body, &mut take).await?;
        }
        // Nothing was offered to be switched to; HTTP/2 has no such answer (RFC 9113 §8.6).
        if answer.status == SWITCHING_PROTOCOLS { Err(Broken::Protocol) } else { Ok(answer) }
    }

    /// Sends the answer, moves the rest of both bodies, and decides about the endpoint's connection.
    async fn finish(
        &mut self,
        forward: &mut Forward<'_>,
        mut exchange: Exchange,
        mut answer: Answer,
        outcome: Outcome<'static>,
    ) -> Outcome<'static> {
        let (status, service_time) = (answer.status, Some(answer.service_time));
        let Ok(to) = self.respond.send_response(answer.head(), answer.body.is_empty()) else {
            let Outcome { flags, details, .. } = body_outcome(Err(PumpError::Write));
            return Outcome { status, service_time, flags, details, ..outcome };
        };
        let mut body = BytesToFrames::new(answer.body, to);
        let moved = self.move_bodies(&mut exchange, &mut forward.upload, &mut body).await;
        if moved.is_err() {
            body.reset();
        }
        let whole = moved.is_ok() && forward.upload.is_done();
        exchange.release(&forward.lease, whole && answer.reusable);
        let Outcome { flags, details, .. } = body_outcome(moved);
        let (received, sent) = (forward.upload.data, body.data);
        Outcome { status, service_time, flags, details, received, sent, ..outcome }
    }

    /// Moves both bodies, each as fast as its own two sides allow, until the answer is through.
    async fn move_bodies(
        &self,
        exchange: &mut Exchange,
        upload: &mut FramesToBytes,
        body: &mut BytesToFrames,
    ) -> Result<(), PumpError> {
        let worker = self.connection.worker();
        let (pool, limit) = (&worker.buffers, worker.settings.idle_timeout);
        let deadline = worker.timers.register();
        deadline.set(limit);
        let mut abandoned = false;
        poll_fn(|cx| {
            let before = upload.data + body.data;
            let stream = &mut exchange.upstream.stream;
            if !abandoned {
                match upload.poll(cx, stream) {
                    Poll::Ready(Err(PumpError::Write)) => abandoned = true,
                    // The client reset its stream, or broke its framing.
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(PumpError::Write)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            let moved = body.poll(cx, (&mut exchange.answered, pool), stream);
            if moved.is_pending() {
                if upload.data + body.data > before {
                    deadline.set(limit);
                }
                return deadline.poll_elapsed(cx).map(|_| Err(PumpError::Write));
            }
            moved
        })
        .await
    }

    /// An answer of our own.
    fn reply(&mut self, reply: &LocalReply<'_>) -> Outcome<'static> {
        self.connection.worker().count(|counts| counts.local_replies += 1);
        let head = local_head(reply, &AnswerFields::of(self.connection));
        let body = if self.method == Method::Head { "" } else { reply.body };
        // When the client is gone nobody reads it.
        if let Ok(mut to) = self.respond.send_response(head, body.is_empty())
            && !body.is_empty()
        {
            _ = to.send_data(Bytes::copy_from_slice(body.as_bytes()), true);
        }
        let sent = reply.body.len() as u64;
        Outcome {
            status: reply.status,
            flags: reply.flags,
            details: reply.details,
            sent,
            ..Outcome::default()
        }
    }
}
