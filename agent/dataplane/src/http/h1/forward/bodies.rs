//! The rest of both bodies, once the head of the answer is known.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use http1::BodyLength;

use super::sending::Sending;
use crate::{
    http::{
        Outcome,
        exchange::{
            Exchange, Http1Exchange, Http2Exchange, RequestBody as _, UpstreamVersion, UpstreamWriter,
            switched_outcome,
        },
        frames::{FramePump, Passed},
        grpc_web::GrpcWeb,
        h1::{
            Next, Session,
            reply::{write_head, write_whole},
        },
        pump::{Pump, PumpError, Standing},
        stream_bytes::StreamBytes,
        stream_limits::Phase,
    },
    relay::{Limits, Relay, Relayed},
    transport::Transport,
    untaken::Taken,
};

type Moved = Poll<Result<(), PumpError>>;

impl Session<'_> {
    /// Writes the head of an answer, which is in `out`, and moves the rest of both bodies.
    pub(super) async fn move_bodies(
        &mut self,
        exchange: &mut Http1Exchange,
        sent: &mut Pump,
        body: &mut Pump,
        out: &[u8],
    ) -> Result<(), PumpError> {
        if sent.is_done() && body.is_done() {
            return write_whole(self.connection, self.stream, out).await;
        }
        write_head(self.connection, self.stream, out).await?;
        let pool = &self.connection.worker().buffers;
        self.while_moving(sent, |cx, mut sending| {
            let repeated = exchange.poll_repeat(cx, sending.sent().bytes);
            let upstream = &mut exchange.upstream.stream;
            if repeated.is_ready()
                && let Err(error) = sending.send_beside(cx, UpstreamWriter::Http1(upstream))
            {
                return (Poll::Ready(Err(error)), Standing::default());
            }
            let answered = exchange.answered.get_or_insert_with(|| pool.small());
            let moved = body.poll(cx, (answered, pool), upstream, sending.stream);
            let held = if body.is_blocked() { body.held() + answered.capacity() } else { 0 };
            (moved, Standing { moved: body.data, held })
        })
        .await
    }

    /// As [`Self::move_bodies`], with an answer that comes in frames, of gRPC or not. Tells in `passed` how much the client
    /// got of it.
    pub(super) async fn move_frames(
        &mut self,
        exchange: Http2Exchange,
        sent: &mut Pump,
        ((framing, grpc, grpc_web), passed): ((BodyLength, bool, Option<GrpcWeb>), &mut Passed),
        out: &mut Vec<u8>,
    ) -> Result<(), PumpError> {
        let Some((mut to, from, _room)) = exchange.into_streams() else { return Err(PumpError::Read) };
        let mut body = FramePump::new(from, framing);
        body.encode(grpc_web);
        body.count_messages(grpc);
        poll_fn(|cx| Poll::Ready(body.stage(cx, out))).await?;
        write_head(self.connection, self.stream, out).await?;
        self.while_moving(sent, |cx, mut sending| {
            if let Err(error) = sending.send_beside(cx, UpstreamWriter::Http2(&mut to)) {
                return (Poll::Ready(Err(error)), Standing::default());
            }
            let moved = body.poll(cx, sending.stream);
            *passed = body.passed();
            (moved, body.standing())
        })
        .await
    }

    /// Moves both bodies until the answer is through. `poll` tells how that stands.
    async fn while_moving(
        &mut self,
        sent: &mut Pump,
        mut poll: impl FnMut(&mut Context<'_>, Sending<'_>) -> (Moved, Standing),
    ) -> Result<(), PumpError> {
        let (worker, deadline) = (self.connection.worker(), &*self.connection.deadline);
        let (pool, overload) = (&worker.buffers, &worker.settings.overload);
        let limits = self.limits;
        deadline.set(limits.idle_timeout(Phase::Answering));
        let mut before = None;
        let moved = poll_fn(|cx| {
            let (pump, received, stream) = (&mut *sent, &mut *self.received, &mut *self.stream);
            let (moved, standing) = poll(cx, Sending { pump, received, stream, pool, deadline, limits });
            if moved.is_pending() {
                let total = Some(sent.data + standing.moved);
                if std::mem::replace(&mut before, total) != total {
                    deadline.set(limits.idle_timeout(Phase::Answering));
                }
                deadline.hold(standing.held > 0, overload, || {
                    let taken = Taken { unacknowledged: self.stream.unacknowledged(), ..Taken::default() };
                    standing.held_for(self.connection.id, taken)
                });
                return deadline.poll_elapsed(cx).map(|_| Err(limits.answering_ended(deadline)));
            }
            moved
        })
        .await;
        deadline.clear();
        moved
    }

    /// Both sides have agreed on another protocol: relays its bytes.
    pub(super) async fn switch(
        &mut self,
        mut exchange: Exchange,
        out: &mut Vec<u8>,
        outcome: &mut Outcome<'_>,
    ) -> Next {
        let early = match &exchange {
            Exchange::Http1(Http1Exchange { answered: Some(answered), .. }) => answered.filled(),
            Exchange::Http1(_) | Exchange::Http2(_) => &[],
        };
        out.extend_from_slice(early);
        let early = early.len() as u64;
        if let Err(error) = write_whole(self.connection, self.stream, out).await {
            outcome.set_end(Err(error));
            return Next::Close;
        }
        let switched = match &mut exchange {
            Exchange::Http1(exchange) => {
                let relayed = self.relay(&mut exchange.upstream.stream).await;
                switched_outcome(relayed, UpstreamVersion::Http1)
            }
            Exchange::Http2(exchange) => match exchange.take_streams() {
                Some((to, from)) => {
                    let relayed = self.relay(&mut StreamBytes::new(to, from)).await;
                    switched_outcome(relayed, UpstreamVersion::Http2)
                }
                None => Outcome::ended(Err(PumpError::Read)),
            },
        };
        (outcome.flags, outcome.details) = (switched.flags, switched.details);
        (outcome.received, outcome.sent) = (switched.received, early + switched.sent);
        Next::Close
    }

    async fn relay(&mut self, upstream: &mut impl Transport) -> Relayed {
        let worker = self.connection.worker();
        let idle = Some(self.connection.stream_idle_timeout());
        let limits = Limits { idle, duration: self.limits.left() };
        let mut relay = Relay::new(self.stream, upstream, self.received.take());
        relay.run(worker, (self.connection.id, &self.connection.deadline), limits, |_| {}).await
    }
}
