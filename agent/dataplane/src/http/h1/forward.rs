//! One HTTP/1 request on its way to an endpoint, and the answer on its way back.

mod answer;
mod bodies;
mod sending;

use std::{pin::pin, rc::Rc, time::Instant};

use bytes::Bytes;
use http1::BodyLength;

use self::{
    answer::{Answer, write_answer},
    sending::Sending,
};
use super::{
    Next, Session,
    reply::{Answering, Persistence, field_of, write_whole},
    upstream_request::UpstreamRequest,
};
use crate::{
    failure::LocalReply,
    http::{
        Outcome, SWITCHING_PROTOCOLS,
        attempts::{Attempts, Unanswered, in_time},
        exchange::{Broken, Exchange, Following, Outgoing, OutgoingHead, RequestBody, UpstreamVersion},
        frames::Passed,
        head::{AnswerFields, AnswerHead},
        mirror::{self, MirroredRequest},
        pump::{Pump, PumpError},
        record_answer,
        routing::Forwarding,
    },
    transport::Transport,
    upstream::Lease,
    view::View,
};

/// A request and the endpoint picked for it.
pub(super) struct Forward<'f, 'v> {
    pub(super) view: &'v View,
    pub(super) forwarding: &'f mut Forwarding<'v>,
    pub(super) start: Instant,
    /// When it was ready to be sent, but for the rest of its body.
    pub(super) begun: Instant,
    pub(super) body: BodyLength,
    pub(super) asked: Answering<'f>,
    pub(super) upstream_request: &'f mut UpstreamRequest,
}

impl Forward<'_, '_> {
    fn lease(&self) -> &Lease {
        &self.forwarding.lease
    }

    fn version(&self) -> UpstreamVersion {
        if self.upstream_request.http2.is_some() { UpstreamVersion::Http2 } else { UpstreamVersion::Http1 }
    }

    /// Whether there are mirrors to copy it to. Where another protocol is asked for there is nobody to speak it with them.
    fn has_copies(&self) -> bool {
        !self.forwarding.policy.mirrors.is_empty() && !self.upstream_request.upgrade
    }
}

impl Session<'_> {
    /// Sends the request to its endpoint and the answer to the client. `head` is the request's head as it goes up.
    pub(super) async fn forward(
        &mut self,
        forward: &mut Forward<'_, '_>,
        head: &mut Vec<u8>,
        outcome: &mut Outcome<'_>,
    ) -> Next {
        let mut sent = Pump::new(forward.body, forward.body);
        if forward.asked.grpc_web.is_some_and(|web| web.asks_in_text) {
            sent.unbase64();
        }
        sent.count_messages(forward.asked.grpc);
        let mut attempts = Attempts::new(
            self.connection,
            forward.view,
            forward.forwarding,
            (forward.asked.grpc, forward.begun),
        );
        if attempts.keeps_body(forward.version()) || forward.has_copies() {
            sent.keep(&self.connection.worker().bodies);
        }
        let mut out = self.connection.worker().scratch();
        let staged = match forward.version() {
            UpstreamVersion::Http1 => self.stage_body(&mut sent, head),
            UpstreamVersion::Http2 => Ok(()),
        };
        let mirrored = sent.is_done();
        if mirrored {
            self.mirror(forward, head, &mut sent);
        }
        let asked = match staged {
            Ok(()) => self.ask(forward, &mut attempts, &mut sent, (head, &mut out)).await,
            Err(broken) => Err(Unanswered::new(&broken, None)),
        };
        let next = match asked {
            Ok((exchange, answer)) => {
                let deadline = attempts.deadline();
                self.finish(forward, exchange, (&mut sent, deadline), answer, (&mut out, outcome)).await
            }
            Err(unanswered) => self.give_up(forward, unanswered, (sent.has_ended(), outcome)).await,
        };
        if !mirrored && sent.is_done() {
            self.mirror(forward, head, &mut sent);
        }
        self.connection.worker().recycle(out);
        outcome.received = outcome.received.max(sent.data);
        outcome.messages.0 = sent.messages();
        attempts.tell(outcome, (forward.start, sent.is_done(), forward.version()));
        next
    }

    /// Copies the request, which is through, to the mirrors of its route.
    fn mirror(&self, forward: &Forward<'_, '_>, head: &[u8], sent: &mut Pump) {
        if !forward.has_copies() {
            return;
        }
        if !sent.rewind() {
            return mirror::drop_copies(self.connection, forward.forwarding.policy);
        }
        let body = sent.sent().bytes;
        let copied = || match &forward.upstream_request.http2 {
            Some(http2) => {
                MirroredRequest::Http2(Box::new(http2.head.clone()), Bytes::copy_from_slice(body), None)
            }
            None => MirroredRequest::Http1([head, body].concat()),
        };
        mirror::send(self.connection, forward.view, forward.forwarding.policy, forward.asked.method, copied);
    }

    /// Puts what has arrived of the request's body behind its head, so that both leave in one write.
    fn stage_body(&mut self, sent: &mut Pump, head: &mut Vec<u8>) -> Result<(), Broken> {
        match &mut *self.received {
            Some(received) => sent.stage(received, head).map_err(|_| Broken::Body),
            None => Ok(()),
        }
    }

    /// Asks endpoints and writes the head of the final answer into `out` as the client gets it.
    async fn ask(
        &mut self,
        forward: &mut Forward<'_, '_>,
        attempts: &mut Attempts<'_>,
        sent: &mut Pump,
        (head, out): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> Result<(Exchange, Answer), Unanswered> {
        let worker = self.connection.worker();
        let fields = AnswerFields::of(self.connection, forward.asked.changes);
        let agreement = forward.upstream_request.http2.as_mut().and_then(|http2| http2.agreement.take());
        let fields = fields.for_grpc_web(forward.asked.grpc_web).agreeing(agreement);
        let (start, persistence) = (forward.start, forward.asked.persistence);
        let mut request = Outgoing {
            head: match &mut forward.upstream_request.http2 {
                Some(http2) => OutgoingHead::Http2(&mut http2.head),
                None => OutgoingHead::Http1(head),
            },
            method: forward.asked.method,
            cluster: forward.forwarding.cluster,
            following: match forward.upstream_request.upgrade {
                true => Following::Protocol,
                false => Following::of(forward.body),
            },
        };
        let mut body = Sending {
            pump: sent,
            received: &mut *self.received,
            stream: &mut *self.stream,
            pool: &worker.buffers,
            deadline: &self.connection.deadline,
            limits: self.limits,
        };
        body.await_more();
        let lease = &mut forward.forwarding.lease;
        let mut take =
            |head: &AnswerHead<'_>, from| write_answer(out, head, (start, from), persistence, &fields);
        let (mut exchange, mut answer) = attempts.ask(lease, &mut request, &mut body, &mut take).await?;
        let end = exchange.end();
        let unanswered = |broken: Broken| Unanswered::new(&broken, Some(Rc::clone(&end)));
        while answer.interim {
            let written = exchange.meanwhile(write_whole(self.connection, body.stream, out)).await;
            written.map_err(|_| unanswered(Broken::Downstream))?;
            body.await_more();
            let take =
                |head: &AnswerHead<'_>, from| write_answer(out, head, (start, from), persistence, &fields);
            let next = attempts.next_head(&mut exchange, (lease, &request), &mut body, take);
            answer = next.await.map_err(unanswered)?;
        }
        if answer.status == SWITCHING_PROTOCOLS && !forward.upstream_request.upgrade {
            return Err(unanswered(Broken::Protocol));
        }
        // A request that is answered before it has arrived leaves the connection in the middle of its body.
        answer.keep_alive = persistence.keep_alive && body.is_done() && self.connection.goes_on();
        Ok((exchange, answer))
    }

    /// Writes the answer, moves the rest of its body, and decides about both connections.
    async fn finish(
        &mut self,
        forward: &Forward<'_, '_>,
        exchange: Exchange,
        (sent, deadline): (&mut Pump, Option<Instant>),
        answer: Answer,
        (out, outcome): (&mut Vec<u8>, &mut Outcome<'_>),
    ) -> Next {
        (outcome.status, outcome.began) = (answer.status, Some(answer.began));
        outcome.set_endpoint(forward.lease(), Some(exchange.end()));
        if !forward.has_copies() && !exchange.is_repeating() {
            sent.forget();
        }
        record_answer(self.connection, self.line, |name| field_of(out, name));
        let status_in_head = forward.asked.grpc.then(|| field_of(out, "grpc-status")).flatten();
        let status_in_head = status_in_head.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        if answer.status == SWITCHING_PROTOCOLS {
            out.extend_from_slice(b"\r\n");
            return self.switch(exchange, out, outcome).await;
        }
        Persistence { keep_alive: answer.keep_alive, ..forward.asked.persistence }.write(out);
        out.extend_from_slice(b"\r\n");
        let (moved, passed) = match exchange {
            Exchange::Http1(mut exchange) => {
                let mut body = Pump::new(answer.body, answer.framing);
                body.count_messages(forward.asked.grpc);
                let buffers = &self.connection.worker().buffers;
                let answered = exchange.answered.get_or_insert_with(|| buffers.small());
                let moved = match body.stage(answered, out) {
                    Ok(()) => {
                        let moving = self.move_bodies(&mut exchange, sent, &mut body, out);
                        in_time(deadline, pin!(moving)).await
                    }
                    // The client gets what came before the break, and then no end.
                    Err(error) => {
                        write_whole(self.connection, self.stream, out).await.and(Err(PumpError::Body(error)))
                    }
                };
                if moved.is_ok() && sent.is_done() && answer.reusable {
                    exchange.release(forward.lease());
                }
                (moved, Passed { data: body.data, messages: body.messages(), grpc_status: None })
            }
            // In a box of its own: other connections should not hold room for it.
            Exchange::Http2(exchange) => {
                let mut passed = Passed::default();
                let form = (answer.framing, forward.asked.grpc, answer.grpc_web);
                let mut moving = Box::pin(self.move_frames(exchange, sent, (form, &mut passed), out));
                let moved = in_time(deadline, moving.as_mut()).await;
                drop(moving);
                (moved, passed)
            }
        };
        let whole = moved.is_ok() && sent.is_done();
        let next = match moved {
            Ok(()) if whole && answer.keep_alive => Next::Request,
            Ok(()) => Next::Linger,
            Err(_) => Next::Close,
        };
        if moved.is_err() && answer.framing == BodyLength::UntilClose {
            // Only how the connection ends can say that this was not all of it.
            self.stream.reset_on_close();
        }
        outcome.set_end(moved);
        (outcome.sent, outcome.messages.1) = (passed.data, passed.messages);
        outcome.grpc_status = status_in_head.or(passed.grpc_status);
        next
    }

    async fn give_up(
        &mut self,
        forward: &Forward<'_, '_>,
        Unanswered { reply, end, transport_failure }: Unanswered,
        (is_through, outcome): (bool, &mut Outcome<'_>),
    ) -> Next {
        let next = match reply {
            Some(reply) => self.fail(forward, &reply, (is_through, outcome)).await,
            None => {
                outcome.set_end(Err(PumpError::Write));
                Next::Close
            }
        };
        outcome.set_endpoint(forward.lease(), end);
        outcome.transport_failure = transport_failure;
        next
    }

    /// Answers in the endpoint's place a request whose body is through or not, which leaves the connection in doubt.
    async fn fail(
        &mut self,
        forward: &Forward<'_, '_>,
        reply: &LocalReply<'static>,
        (is_through, outcome): (bool, &mut Outcome<'_>),
    ) -> Next {
        let Answering { persistence, .. } = forward.asked;
        let persistence = Persistence { keep_alive: persistence.keep_alive && is_through, ..persistence };
        let reply = &forward.asked.form_of(*reply);
        let mut out = self.connection.worker().scratch();
        let next = self.reply(reply, Answering { persistence, ..forward.asked }, &mut out).await;
        self.connection.worker().recycle(out);
        *outcome = Outcome::reply(reply, forward.asked.method);
        next
    }
}
