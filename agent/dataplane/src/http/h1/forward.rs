//! One HTTP/1 request on its way to an endpoint, and the answer on its way back.

mod frames;

use std::{
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http1::BodyLength;

use super::{Answering, Lasting, Next, Session, write_head, write_whole};
use crate::{
    buffer::{BufferPool, PooledBuffer},
    failure::LocalReply,
    http::{
        Outcome, SWITCHING_PROTOCOLS,
        attempts::{Attempts, Unanswered, in_time},
        exchange::{
            Broken, Exchange, Http1Exchange, Outgoing, OutgoingHead, RequestBody, Sent, Uplink,
            UpstreamVersion, body_outcome, service_time,
        },
        head::{AnswerFields, AnswerHead, FieldSink},
        mirror::{self, Copied},
        pump::{Pump, PumpError},
        routing::Forwarding,
    },
    relay::{Limits, relay},
    timer::Deadline,
    transport::Transport,
    upstream::Lease,
    view::View,
};

/// A request and the endpoint picked for it.
pub(super) struct Forward<'v> {
    pub(super) view: &'v View,
    pub(super) forwarding: Forwarding<'v>,
    pub(super) start: Instant,
    pub(super) body: BodyLength,
    pub(super) asked: Answering<'v>,
    /// Whether the client's offer to switch protocols was passed on.
    pub(super) upgrade: bool,
    /// The head as it goes up, for an endpoint that speaks HTTP/2.
    pub(super) http2_head: Option<Box<::http::Request<()>>>,
}

impl Forward<'_> {
    fn lease(&self) -> &Lease {
        &self.forwarding.lease
    }

    fn version(&self) -> UpstreamVersion {
        if self.http2_head.is_some() { UpstreamVersion::Http2 } else { UpstreamVersion::Http1 }
    }
}

/// The head of an answer, as far as it matters once it is written to memory.
#[derive(Clone, Copy)]
struct Answer {
    interim: bool,
    status: u16,
    service_time: u64,
    body: BodyLength,
    framing: BodyLength,
    /// Whether the endpoint's connection can carry another request.
    reusable: bool,
    keep_alive: bool,
}

/// A request's body in HTTP/1 framing: what has arrived, and where more comes from.
struct Sending<'s, S> {
    pump: &'s mut Pump,
    received: &'s mut Option<PooledBuffer>,
    stream: &'s mut S,
    pool: &'s Rc<BufferPool>,
    deadline: &'s Deadline,
    idle_timeout: Duration,
}

impl<S: Transport> RequestBody for Sending<'_, S> {
    fn poll_send(&mut self, cx: &mut Context<'_>, to: Uplink<'_>) -> Poll<Result<(), PumpError>> {
        let Some(received) = self.received.as_mut().filter(|_| self.pump.is_moving()) else {
            return self.poll_gone(cx);
        };
        let (before, received) = (self.pump.data, (received, self.pool));
        let moved = match to {
            Uplink::Http1(to) => self.pump.poll(cx, received, self.stream, to),
            Uplink::Http2(to) => self.pump.poll_frames(cx, received, self.stream, to),
        };
        if moved.is_pending() {
            if self.pump.data > before {
                self.deadline.set(self.idle_timeout);
            }
            return self.deadline.poll_elapsed(cx).map(|_| Err(PumpError::Idle));
        }
        match ready!(moved) {
            Err(PumpError::Write) => {
                self.pump.abandon();
                Poll::Ready(Ok(()))
            }
            result => Poll::Ready(result),
        }
    }

    fn is_done(&self) -> bool {
        self.pump.is_done()
    }

    fn rewind(&mut self) -> bool {
        self.pump.rewind()
    }

    fn sent(&self) -> Sent<'_> {
        self.pump.sent()
    }
}

impl<S: Transport> Sending<'_, S> {
    /// Gives the rest of the body, if there is any, its time. The answer may take as long as it likes.
    fn await_more(&mut self) {
        if self.pump.is_moving() {
            self.deadline.set(self.idle_timeout);
        } else if self.received.as_ref().is_some_and(|received| received.is_empty()) {
            *self.received = None;
        }
    }

    /// Watches a client that has said everything, so that one that leaves does not hold an endpoint until it answers.
    /// Closing its side counts as leaving, as it does in Envoy; the beginning of a next request is kept.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if self.received.as_ref().is_some_and(|received| !received.is_empty()) {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.pool.poll_receive(cx, self.stream, self.received)) {
            Ok(1..) => Poll::Ready(Ok(())),
            Ok(0) | Err(_) => Poll::Ready(Err(PumpError::Read)),
        }
    }
}

impl<S: Transport> Session<'_, S> {
    /// Sends the request to its endpoint and the answer to the client. `head` is the request's head as it goes up.
    pub(super) async fn forward(
        &mut self,
        mut forward: Forward<'_>,
        head: &mut Vec<u8>,
    ) -> (Next, Outcome<'static>) {
        let mut sent = Pump::new(forward.body, forward.body);
        let mut attempts =
            Attempts::new(self.connection, forward.view, &forward.forwarding, forward.asked.grpc);
        let policy = forward.forwarding.policy;
        if attempts.keeps_body() || !policy.mirrors.is_empty() {
            sent.keep();
        }
        let mut out = self.connection.worker().scratch();
        let staged = match forward.version() {
            UpstreamVersion::Http1 => self.stage_body(&mut sent, head),
            UpstreamVersion::Http2 => Ok(()),
        };
        let mirrored = sent.is_done();
        if mirrored {
            self.mirror(&forward, head, &sent);
        }
        let asked = match staged {
            Ok(()) => self.ask(&mut forward, &mut attempts, &mut sent, (head, &mut out)).await,
            Err(broken) => Err(Unanswered::new(&broken, None)),
        };
        let (next, outcome) = match asked {
            Ok((exchange, answer)) => {
                let deadline = attempts.deadline();
                self.finish(&forward, exchange, (&mut sent, deadline), answer, &mut out).await
            }
            Err(unanswered) => self.give_up(&forward, unanswered).await,
        };
        if !mirrored && sent.is_done() && sent.rewind() {
            self.mirror(&forward, head, &sent);
        }
        self.connection.worker().recycle(out);
        let received = outcome.received.max(sent.data);
        (next, Outcome { exhausted: attempts.exhausted, received, ..outcome })
    }

    /// Copies the request, which is through, to the mirrors of its route.
    fn mirror(&self, forward: &Forward<'_>, head: &[u8], sent: &Pump) {
        let body = sent.sent().bytes;
        let copied = || match &forward.http2_head {
            Some(head) => Copied::Http2(head.clone(), Bytes::copy_from_slice(body)),
            None => Copied::Http1([head, body].concat()),
        };
        mirror::send(self.connection, forward.view, forward.forwarding.policy, forward.asked.method, copied);
    }

    /// Puts what has arrived of the request's body behind its head, so that both leave in one write.
    fn stage_body(&mut self, sent: &mut Pump, head: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut self.received {
            Some(received) => sent.stage(received, head).map_err(|_| Broken::Body),
            None => Ok(()),
        }
    }

    /// Asks endpoints and writes the head of the final answer into `out` as the client gets it.
    async fn ask(
        &mut self,
        forward: &mut Forward<'_>,
        attempts: &mut Attempts<'_>,
        sent: &mut Pump,
        (head, out): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> Result<(Exchange, Answer), Unanswered> {
        let worker = self.connection.worker();
        let fields = AnswerFields::of(self.connection, forward.asked.changes);
        let (start, lasting) = (forward.start, forward.asked.lasting);
        let mut request = Outgoing {
            head: forward.http2_head.as_deref_mut().map_or(OutgoingHead::Http1(head), OutgoingHead::Http2),
            method: forward.asked.method,
            cluster: forward.forwarding.cluster,
            bodiless: forward.body.is_empty(),
        };
        let mut body = Sending {
            pump: sent,
            received: &mut self.received,
            stream: &mut *self.stream,
            pool: &worker.buffers,
            deadline: &self.connection.deadline,
            idle_timeout: worker.settings.idle_timeout,
        };
        body.await_more();
        let lease = &mut forward.forwarding.lease;
        let mut take =
            |head: &AnswerHead<'_>, upstream| write_answer(out, head, (start, upstream), lasting, &fields);
        let (mut exchange, mut answer) = attempts.ask(lease, &mut request, &mut body, &mut take).await?;
        let local = exchange.local();
        let unanswered = |broken: Broken| Unanswered::new(&broken, local);
        while answer.interim {
            let written = write_whole(self.connection, body.stream, out).await;
            written.map_err(|_| unanswered(Broken::Downstream))?;
            body.await_more();
            let upstream = lease.address;
            let take = |head: &AnswerHead<'_>| write_answer(out, head, (start, upstream), lasting, &fields);
            let next = attempts.next_head(&mut exchange, (lease, &request), &mut body, take);
            answer = next.await.map_err(unanswered)?;
        }
        if answer.status == SWITCHING_PROTOCOLS && !forward.upgrade {
            return Err(unanswered(Broken::Protocol));
        }
        // A request that is answered before it has arrived leaves the connection in the middle of its body.
        answer.keep_alive = lasting.keep_alive && body.is_done() && !worker.is_draining();
        Ok((exchange, answer))
    }

    /// Writes the answer, moves the rest of its body, and decides about both connections.
    async fn finish(
        &mut self,
        forward: &Forward<'_>,
        exchange: Exchange,
        (sent, deadline): (&mut Pump, Option<tokio::time::Instant>),
        answer: Answer,
        out: &mut Vec<u8>,
    ) -> (Next, Outcome<'static>) {
        let outcome = Outcome {
            status: answer.status,
            service_time: Some(answer.service_time),
            ..Outcome::default().at(forward.lease(), exchange.local())
        };
        let switched = answer.status == SWITCHING_PROTOCOLS;
        if !switched {
            Lasting { keep_alive: answer.keep_alive, ..forward.asked.lasting }.write(out);
        }
        out.extend_from_slice(b"\r\n");
        let (moved, received) = match exchange {
            Exchange::Http1(exchange) if switched => return self.switch(exchange, out, outcome).await,
            Exchange::Http1(mut exchange) => {
                let mut body = Pump::new(answer.body, answer.framing);
                let buffers = &self.connection.worker().buffers;
                let answered = exchange.answered.get_or_insert_with(|| buffers.small());
                let moved = match body.stage(answered, out) {
                    Ok(()) => in_time(deadline, self.move_bodies(&mut exchange, sent, &mut body, out)).await,
                    Err(error) => Err(PumpError::Body(error)),
                };
                if moved.is_ok() && sent.is_done() && answer.reusable {
                    exchange.release(forward.lease());
                }
                (moved, body.data)
            }
            // In a box of its own: other connections should not hold room for it.
            Exchange::Http2(exchange) => {
                let mut received = 0;
                let moving = self.move_frames(exchange, sent, (answer.framing, &mut received), out);
                let moved = Box::pin(in_time(deadline, moving)).await;
                (moved, received)
            }
        };
        let whole = moved.is_ok() && sent.is_done();
        let next = if whole && answer.keep_alive { Next::Request } else { Next::Close };
        if moved.is_ok() && next == Next::Close {
            self.linger().await;
        }
        let Outcome { flags, details, .. } = body_outcome(moved);
        (next, Outcome { flags, details, sent: received, ..outcome })
    }

    async fn move_bodies(
        &mut self,
        exchange: &mut Http1Exchange,
        sent: &mut Pump,
        body: &mut Pump,
        out: &[u8],
    ) -> Result<(), PumpError> {
        write_head(self.connection, self.stream, out).await?;
        let worker = self.connection.worker();
        let (pool, deadline) = (&worker.buffers, &*self.connection.deadline);
        let idle_timeout = worker.settings.idle_timeout;
        deadline.set(idle_timeout);
        let moved = poll_fn(|cx| {
            let before = sent.data + body.data;
            let stream = &mut exchange.upstream.stream;
            let received = &mut self.received;
            let mut sending =
                Sending { pump: sent, received, stream: &mut *self.stream, pool, deadline, idle_timeout };
            match sending.poll_send(cx, Uplink::Http1(stream)) {
                // Whether nothing moves at all is seen below.
                Poll::Ready(Ok(()) | Err(PumpError::Idle)) | Poll::Pending => {}
                Poll::Ready(Err(_)) => {
                    // Gone, or broken beyond understanding; either way nobody waits for the rest of the answer.
                    sent.abandon();
                    return Poll::Ready(Err(PumpError::Write));
                }
            }
            let answered = exchange.answered.get_or_insert_with(|| pool.small());
            let moved = body.poll(cx, (answered, pool), stream, self.stream);
            if moved.is_pending() {
                if sent.data + body.data > before {
                    deadline.set(idle_timeout);
                }
                return deadline.poll_elapsed(cx).map(|_| Err(PumpError::Idle));
            }
            moved
        })
        .await;
        deadline.clear();
        moved
    }

    /// Both sides have agreed on another protocol: relays its bytes.
    async fn switch(
        &mut self,
        mut exchange: Http1Exchange,
        out: &mut Vec<u8>,
        outcome: Outcome<'static>,
    ) -> (Next, Outcome<'static>) {
        let worker = self.connection.worker();
        let early = exchange.answered.as_ref().map_or(&[][..], |answered| answered.filled());
        out.extend_from_slice(early);
        let outcome = Outcome { details: "via_upstream", sent: early.len() as u64, ..outcome };
        if write_whole(self.connection, self.stream, out).await.is_err() {
            return (Next::Close, Outcome { flags: "DC", ..outcome });
        }
        let limits = Limits { idle: Some(worker.settings.idle_timeout), duration: None };
        let surroundings = (&**worker, &*self.connection.deadline, limits);
        let first = self.received.take();
        let (transferred, _) = relay(self.stream, &mut exchange.upstream.stream, first, surroundings).await;
        let sent = outcome.sent + transferred.sent;
        (Next::Close, Outcome { received: transferred.received, sent, ..outcome })
    }

    async fn give_up(
        &mut self,
        forward: &Forward<'_>,
        Unanswered { reply, local, transport_failure }: Unanswered,
    ) -> (Next, Outcome<'static>) {
        let (next, outcome) = match reply {
            Some(reply) => self.fail(forward, &reply, local).await,
            None => (Next::Close, body_outcome(Err(PumpError::Write)).at(forward.lease(), local)),
        };
        (next, Outcome { transport_failure, ..outcome })
    }

    /// Answers in the endpoint's place.
    async fn fail(
        &mut self,
        forward: &Forward<'_>,
        reply: &LocalReply<'static>,
        local: Option<SocketAddr>,
    ) -> (Next, Outcome<'static>) {
        let Answering { lasting, grpc, .. } = forward.asked;
        let lasting = Lasting { keep_alive: lasting.keep_alive && forward.body.is_empty(), ..lasting };
        let reply = &reply.for_client(grpc);
        let mut out = self.connection.worker().scratch();
        let next = self.reply(reply, Answering { lasting, ..forward.asked }, &mut out).await;
        self.connection.worker().recycle(out);
        (next, Outcome::reply(reply, forward.asked.method).at(forward.lease(), local))
    }
}

/// Writes into `out` what the client gets of a head: all of an interim one; of a final one all but the `connection`
/// field and the empty line, which depend on how much of the request has arrived by then.
fn write_answer(
    out: &mut Vec<u8>,
    head: &AnswerHead<'_>,
    (start, upstream): (Instant, SocketAddr),
    lasting: Lasting,
    fields: &AnswerFields<'_>,
) -> Answer {
    let service_time = service_time(start);
    let (status, body) = (head.status(), head.body());
    let framing = lasting.framing(body);
    out.clear();
    if head.is_interim() {
        lasting.write_interim(out, head);
    } else {
        http1::write_status_line(out, status);
        fields.write_response(out, head, (service_time, upstream));
        if status == SWITCHING_PROTOCOLS {
            out.field("connection", b"upgrade");
            out.field("upgrade", head.upgrade().unwrap_or_default());
        } else {
            http1::write_framing(out, framing);
        }
    }
    Answer {
        interim: head.is_interim(),
        status,
        service_time,
        body,
        framing,
        reusable: head.keep_alive(),
        keep_alive: false,
    }
}

impl Lasting {
    /// Passes an interim answer on, unless the client's version knows none (RFC 9110 §15.2).
    fn write_interim(self, out: &mut Vec<u8>, head: &AnswerHead<'_>) {
        if self.version == http1::Version::Http11 {
            http1::write_status_line(out, head.status());
            head.write_end_to_end(out);
            out.extend_from_slice(b"\r\n");
        }
    }
}
