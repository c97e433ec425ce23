//! One HTTP/2 stream: a request, its answer, and the line about it in the access log.

mod bodies;
mod prepare;
mod sending;
mod switched;

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Instant};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http1::BodyLength;
use snapshot::Underscores;

use self::{
    prepare::{Arrived, Prepared},
    sending::{IdleTimer, Sending},
};
use super::{
    Session,
    head::{Answer, body_length, local_head, method, offered},
};
use crate::{
    access_log::Recorded,
    connection::Connection,
    failure::LocalReply,
    http::{
        Method, Outcome, SWITCHING_PROTOCOLS,
        attempts::{Attempts, Unanswered, in_time},
        edits::AnswerChanges,
        exchange::{Broken, Exchange, Following, Outgoing, OutgoingHead, Sent, UpstreamVersion, body_end},
        fields::grpc_status,
        frames::{FramePump, Passed},
        grpc_web::GrpcWeb,
        head::{AnswerFields, AnswerHead, has_underscore},
        log,
        mirror::{self, MirroredRequest},
        pump::{Pump, PumpError},
        record_answer,
        routing::{Action, Forwarding, Routed},
        stream_limits::StreamLimits,
    },
    upstream::Lease,
    view::View,
};

/// Looks fields up in a head or in trailers.
fn field_in<'h>(fields: &'h ::http::HeaderMap) -> impl Fn(&str) -> Option<&'h [u8]> {
    move |name| fields.get(name).map(::http::HeaderValue::as_bytes)
}

/// How a stream ended, as far as its connection cares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    Answered,
    /// The client took it back before it had the whole answer.
    Reset,
}

/// Serves one request.
pub(super) async fn serve(
    session: &Session,
    request: ::http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Ended {
    let connection = &session.connection;
    let (start, limits) = (Instant::now(), StreamLimits::begin(connection));
    let worker = connection.worker();
    worker.count(|counts| counts.requests += 1);
    let (mut parts, body) = request.into_parts();
    let underscores = connection.settings.limits.underscores;
    if underscores == Underscores::Refused
        && has_underscore(parts.headers.keys().map(::http::HeaderName::as_str))
    {
        return refuse_underscores(connection, &parts.method, start, respond);
    }
    if underscores == Underscores::Dropped {
        drop_underscores(&mut parts.headers);
    }
    let view = connection.view();
    let mut line = Recorded::default();
    let mut out = worker.scratch();
    let switches = offered(&parts).is_some();
    // What follows the head of such a request is the other protocol's.
    let length = if switches { BodyLength::Empty } else { body_length(&parts.headers, body.is_end_stream()) };
    let arrived = Arrived { connection, parts: &parts, length, start };
    let prepared = arrived.prepare(&view, (&mut line, &mut out), &mut respond).await;
    let Prepared { routed, http2_head, delayed } = prepared;
    let Routed { action, cluster, route, answer, grpc, grpc_web } = routed;
    let method = Method::of(method(&parts));
    let changes = answer.as_deref();
    let line_of = &mut line;
    let mut stream = Stream {
        connection,
        session,
        respond,
        start,
        limits,
        method,
        switches,
        grpc,
        grpc_web,
        changes,
        line: line_of,
    };
    let mut outcome = match action {
        Action::Reply(reply) => stream.reply(&reply).await,
        Action::Redirect(status, location) => stream.reply(&LocalReply::redirect(status, &location)).await,
        Action::Unescape(location) => stream.reply(&LocalReply::unescaped(&location)).await,
        Action::Forward(forwarding) => {
            let mut upload = FramePump::new(body, length);
            if grpc_web.is_some_and(|web| web.asks_in_text) {
                upload.unbase64();
            }
            upload.count_messages(grpc);
            let begun = if delayed { Instant::now() } else { start };
            let mut forward = Forward { view: &view, forwarding, begun, upload, length, http2_head };
            stream.forward(&mut forward, &mut out).await
        }
    };
    worker.recycle(out);
    outcome.set_route(route);
    (outcome.cluster, outcome.grpc, outcome.delayed) = (cluster, grpc, delayed);
    log(connection, start, &line, &outcome);
    let is_reset = outcome.flags == CLIENT_GONE || outcome.details == LocalReply::BROKEN_HTTP2.details;
    if is_reset { Ended::Reset } else { Ended::Answered }
}

/// Resets a stream for a name that holds `_`, and logs it.
fn refuse_underscores(
    connection: &Connection,
    method: &::http::Method,
    start: Instant,
    mut respond: SendResponse<Bytes>,
) -> Ended {
    // Envoy's reason.
    respond.send_reset(h2::Reason::INTERNAL_ERROR);
    let outcome = Outcome::reply(&LocalReply::UNDERSCORE_RESET, Method::of(method.as_str()));
    let mut line = Recorded::default();
    line.start("HTTP/2");
    log(connection, start, &line, &outcome);
    Ended::Answered
}

/// Takes fields away whose names hold `_`.
fn drop_underscores(fields: &mut ::http::HeaderMap) {
    let names: Vec<_> = fields.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in names {
        fields.remove(name);
    }
}

const CLIENT_GONE: &str = LocalReply::CLIENT_GONE.flags;

struct Stream<'c> {
    connection: &'c Connection,
    session: &'c Session,
    respond: SendResponse<Bytes>,
    start: Instant,
    limits: StreamLimits,
    method: Method,
    /// Whether the client asks for another protocol.
    switches: bool,
    /// Whether answers of our own take the form of gRPC.
    grpc: bool,
    /// The forms of bodies, where gRPC-Web becomes gRPC.
    grpc_web: Option<GrpcWeb>,
    /// What the route changes in the answer.
    changes: Option<&'c AnswerChanges<'c>>,
    line: &'c mut Recorded,
}

/// A request and the endpoint picked for it.
struct Forward<'v> {
    view: &'v View,
    forwarding: Forwarding<'v>,
    /// When it was ready to be sent, but for the rest of its body.
    begun: Instant,
    upload: FramePump,
    length: BodyLength,
    /// The head as it goes up, for an endpoint that speaks HTTP/2.
    http2_head: Option<::http::Request<()>>,
}

impl Forward<'_> {
    fn lease(&self) -> &Lease {
        &self.forwarding.lease
    }

    fn version(&self) -> UpstreamVersion {
        if self.http2_head.is_some() { UpstreamVersion::Http2 } else { UpstreamVersion::Http1 }
    }
}

impl Stream<'_> {
    /// Sends the request to its endpoint and the answer to the client. `head` is the request's head as it goes up.
    async fn forward(&mut self, forward: &mut Forward<'_>, head: &mut Vec<u8>) -> Outcome<'static> {
        let mut attempts =
            Attempts::new(self.connection, forward.view, &forward.forwarding, (self.grpc, forward.begun));
        if attempts.keeps_body(forward.version()) || self.copies(forward) {
            forward.upload.keep(&self.connection.worker().bodies);
        }
        let staged = match forward.version() {
            UpstreamVersion::Http1 => poll_fn(|cx| Poll::Ready(forward.upload.stage(cx, head))).await,
            UpstreamVersion::Http2 => Ok(()),
        };
        let mirrored = forward.upload.is_done();
        if mirrored {
            self.mirror(forward, head);
        }
        let asked = match staged {
            Ok(()) => self.ask(forward, &mut attempts, head).await,
            Err(error) => Err(Unanswered::new(&Broken::from(error), None)),
        };
        let mut outcome = match asked {
            Ok((exchange, answer)) => {
                let mut outcome = Outcome::default();
                outcome.set_endpoint(forward.lease(), Some(exchange.end()));
                match answer.status {
                    // In a box of its own: hardly any stream becomes another protocol's.
                    SWITCHING_PROTOCOLS => Box::pin(self.switch(forward, exchange, answer, outcome)).await,
                    200..300 if self.switches => self.refuse_switch(answer, outcome),
                    _ => self.finish(forward, (exchange, attempts.deadline()), answer, outcome).await,
                }
            }
            Err(Unanswered { reply, end, transport_failure }) => {
                let mut outcome = match reply {
                    Some(reply) if reply == LocalReply::BROKEN_HTTP2 => Outcome::reply(&reply, self.method),
                    Some(reply) => self.reply(&reply).await,
                    None => Outcome::reply(&LocalReply::CLIENT_GONE, self.method),
                };
                outcome.set_endpoint(forward.lease(), end);
                Outcome { transport_failure, ..outcome }
            }
        };
        if !mirrored && forward.upload.is_done() {
            self.mirror(forward, head);
        }
        let (upload, ended) = (forward.upload.passed(), forward.upload.is_done());
        outcome.received = outcome.received.max(upload.data);
        outcome.messages.0 = upload.messages;
        attempts.tell(&mut outcome, (self.start, ended, forward.version()));
        outcome
    }

    /// Whether the request goes to mirrors, too. Where another protocol is asked for there is nobody to speak it with them.
    fn copies(&self, forward: &Forward<'_>) -> bool {
        !forward.forwarding.policy.mirrors.is_empty() && !self.switches
    }

    /// Copies the request, which is through, to the mirrors of its route.
    fn mirror(&self, forward: &mut Forward<'_>, head: &[u8]) {
        if !self.copies(forward) {
            return;
        }
        if !forward.upload.rewind() {
            return mirror::drop_copies(self.connection, forward.forwarding.policy);
        }
        let Sent { bytes: body, trailers, .. } = forward.upload.sent();
        let copied = || match &forward.http2_head {
            Some(head) => MirroredRequest::Http2(
                Box::new(head.clone()),
                Bytes::copy_from_slice(body),
                trailers.cloned(),
            ),
            None => MirroredRequest::Http1([head, body].concat()),
        };
        mirror::send(self.connection, forward.view, forward.forwarding.policy, self.method, copied);
    }

    /// Asks endpoints; passes interim answers on and returns the final one.
    async fn ask(
        &mut self,
        forward: &mut Forward<'_>,
        attempts: &mut Attempts<'_>,
        head: &mut Vec<u8>,
    ) -> Result<(Exchange, Answer), Unanswered> {
        let fields = AnswerFields::of(self.connection, self.changes).for_grpc_web(self.grpc_web);
        let start = self.start;
        let mut request = Outgoing {
            head: forward.http2_head.as_mut().map_or(OutgoingHead::Http1(head), OutgoingHead::Http2),
            method: self.method,
            cluster: forward.forwarding.cluster,
            following: if self.switches { Following::Protocol } else { Following::of(forward.length) },
        };
        let idle_timer = IdleTimer::new(self.connection.worker(), self.limits);
        let mut body = Sending { upload: &mut forward.upload, respond: &mut self.respond, idle_timer };
        let lease = &mut forward.forwarding.lease;
        let take = |head: &AnswerHead<'_>, from| Answer::new(head, (start, from), &fields);
        let (mut exchange, mut answer) = attempts.ask(lease, &mut request, &mut body, take).await?;
        let end = exchange.end();
        let unanswered = |broken: Broken| Unanswered::new(&broken, Some(Rc::clone(&end)));
        while answer.interim {
            let sent = body.respond.send_informational(answer.head());
            sent.map_err(|_| unanswered(Broken::Downstream))?;
            body.idle_timer.renew();
            let take = |head: &AnswerHead<'_>, from| Answer::new(head, (start, from), &fields);
            let next = attempts.next_head(&mut exchange, (lease, &request), &mut body, take);
            answer = next.await.map_err(unanswered)?;
        }
        match answer.status {
            SWITCHING_PROTOCOLS if !self.switches => Err(unanswered(Broken::Protocol)),
            _ => Ok((exchange, answer)),
        }
    }

    /// Sends the answer, moves the rest of both bodies, and decides about the endpoint's connection.
    async fn finish(
        &mut self,
        forward: &mut Forward<'_>,
        (exchange, deadline): (Exchange, Option<Instant>),
        mut answer: Answer,
        outcome: Outcome<'static>,
    ) -> Outcome<'static> {
        let (status, began) = (answer.status, Some(answer.began));
        let head = answer.head();
        let trailers_only = grpc_status(head.headers());
        record_answer(self.connection, self.line, field_in(head.headers()));
        let Ok(mut client) = self.respond.send_response(head, answer.body.is_empty()) else {
            let (flags, details) = body_end(Err(PumpError::Write));
            return Outcome { status, began, flags, details, ..outcome };
        };
        let copies = self.copies(forward);
        let upload = &mut forward.upload;
        if !copies && !exchange.is_repeating() {
            upload.forget();
        }
        let (moved, passed) = match exchange {
            Exchange::Http1(mut exchange) => {
                let mut body = Pump::new(answer.body, answer.body);
                body.count_messages(self.grpc);
                body.stay_small(self.session.is_crowded());
                let moving = self.move_bytes(&mut exchange, upload, &mut body, &mut client);
                let moved = in_time(deadline, pin!(moving)).await;
                if moved.is_ok() && upload.is_done() && answer.reusable {
                    exchange.release(&forward.forwarding.lease);
                }
                (moved, Passed { data: body.data, messages: body.messages(), grpc_status: None })
            }
            Exchange::Http2(exchange) => {
                let mut passed = Passed::default();
                let form = ((answer.body, answer.grpc_web), &mut passed);
                let mut moving = Box::pin(self.move_frames(exchange, upload, form, &mut client));
                let moved = in_time(deadline, moving.as_mut()).await;
                drop(moving);
                (moved, passed)
            }
        };
        if moved.is_err() {
            client.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        let (flags, details) = body_end(moved);
        let grpc_status = trailers_only.or(passed.grpc_status);
        let (sent, messages) = (passed.data, (0, passed.messages));
        Outcome { status, began, flags, details, sent, messages, grpc_status, ..outcome }
    }

    /// An answer of our own.
    async fn reply(&mut self, reply: &LocalReply<'_>) -> Outcome<'static> {
        self.connection.worker().count(|counts| counts.local_replies += 1);
        let reply = match self.grpc_web {
            Some(_) => reply.for_grpc_web(),
            None => reply.for_client(self.grpc),
        };
        let fields = AnswerFields::of(self.connection, self.changes).for_grpc_web(self.grpc_web);
        let head = local_head(&reply, &fields);
        let body = if self.method == Method::Head { "" } else { reply.sent_body() };
        record_answer(self.connection, self.line, field_in(head.headers()));
        let outcome = Outcome::reply(&reply, self.method);
        // When the client is gone nobody reads it.
        let Ok(mut to) = self.respond.send_response(head, body.is_empty()) else { return outcome };
        match self.send_body(&mut to, body.as_bytes()).await {
            Ok(()) => outcome,
            Err((error, sent)) => {
                to.send_reset(h2::Reason::CANCEL);
                let (flags, details) = body_end(Err(error));
                Outcome { flags, details, sent, ..outcome }
            }
        }
    }
}
