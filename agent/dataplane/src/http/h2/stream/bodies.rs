//! The rest of both bodies, once the head of the answer is known.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::SendStream;
use http1::BodyLength;

use super::{
    Stream, field_in,
    sending::{IdleTimer, poll_upload},
};
use crate::http::{
    exchange::{Http1Exchange, Http2Exchange, UpstreamWriter},
    flow_control::poll_room,
    frames::{FRAME, FramePump, Passed},
    grpc_web::GrpcWeb,
    pump::{Pump, PumpError, Standing},
    record_trailers, wants_trailers,
};

type Moved = Poll<Result<(), PumpError>>;

impl Stream<'_> {
    pub(super) async fn move_bytes(
        &self,
        exchange: &mut Http1Exchange,
        upload: &mut FramePump,
        body: &mut Pump,
        client: &mut SendStream<Bytes>,
    ) -> Result<(), PumpError> {
        let pool = &self.connection.worker().buffers;
        self.while_moving(|cx| {
            let repeated = exchange.poll_repeat(cx, upload.sent().bytes);
            let stream = &mut exchange.upstream.stream;
            let sending = match repeated {
                Poll::Ready(()) => poll_upload(cx, upload, UpstreamWriter::Http1(stream)),
                Poll::Pending => Poll::Pending,
            };
            let answered = exchange.answered.get_or_insert_with(|| pool.small());
            let moved = body.poll_frames(cx, (answered, pool), stream, client);
            let mut standing = Standing { moved: upload.data + body.data, held: 0 };
            if body.is_blocked() {
                standing.held = FRAME + body.held() + answered.capacity();
                // What waits is with the codec.
                exchange.answered.take_if(|answered| answered.is_empty());
            }
            (sending, moved, standing)
        })
        .await
    }

    /// Tells in `passed` how much of the answer the client got.
    pub(super) async fn move_frames(
        &mut self,
        exchange: Http2Exchange,
        upload: &mut FramePump,
        ((length, grpc_web), passed): ((BodyLength, Option<GrpcWeb>), &mut Passed),
        client: &mut SendStream<Bytes>,
    ) -> Result<(), PumpError> {
        let Some((mut to, from, _room)) = exchange.into_streams() else { return Err(PumpError::Read) };
        let mut body = FramePump::new(from, length);
        body.encode(grpc_web);
        body.count_messages(self.grpc);
        if wants_trailers(self.connection) {
            body.keep_trailers();
        }
        let moving = self.while_moving(|cx| {
            let sending = poll_upload(cx, upload, UpstreamWriter::Http2(&mut to));
            let moved = body.poll_frames(cx, client);
            *passed = body.passed();
            let standing = body.standing();
            (sending, moved, Standing { moved: upload.data + standing.moved, ..standing })
        });
        let moved = moving.await;
        if let Some(trailers) = body.kept_trailers() {
            record_trailers(self.connection, self.line, field_in(trailers));
        }
        moved
    }

    /// Sends a body of our own as the client makes room for it: what it does not take is not held for it.
    ///
    /// # Errors
    /// The client does not take it; with how much it took.
    pub(super) async fn send_body(
        &self,
        client: &mut SendStream<Bytes>,
        body: &[u8],
    ) -> Result<(), (PumpError, u64)> {
        let (mut pieces, mut sent) = (body.chunks(FRAME).peekable(), 0);
        let mut idle_timer = IdleTimer::new(self.connection.worker(), self.limits);
        let sending = poll_fn(|cx| {
            while let Some(piece) = pieces.peek() {
                match poll_room(cx, client) {
                    Poll::Ready(room) => room?,
                    Poll::Pending => {
                        let standing = Standing { moved: sent, held: FRAME + body.len() };
                        return idle_timer.poll_answering(cx, self.connection, standing).map(Err);
                    }
                }
                sent += piece.len() as u64;
                let data = Bytes::copy_from_slice(piece);
                pieces.next();
                client.send_data(data, pieces.peek().is_none()).map_err(|_| PumpError::Write)?;
            }
            Poll::Ready(Ok(()))
        });
        sending.await.map_err(|error| (error, sent))
    }

    /// Moves both bodies, each as fast as its own two sides allow, until the answer is through. `poll` tells of the
    /// upload, of the answer, and how both stand.
    async fn while_moving(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> (Moved, Moved, Standing),
    ) -> Result<(), PumpError> {
        let mut idle_timer = IdleTimer::new(self.connection.worker(), self.limits);
        poll_fn(|cx| {
            let (sending, moved, standing) = poll(cx);
            // The client reset its stream, or broke its framing.
            if let Poll::Ready(Err(_)) = sending {
                return Poll::Ready(Err(PumpError::Write));
            }
            match moved {
                Poll::Pending => idle_timer.poll_answering(cx, self.connection, standing).map(Err),
                moved => moved,
            }
        })
        .await
        .map_err(|error| match error {
            PumpError::Write if self.connection.deadline.is_given_up() => PumpError::Untaken,
            error => error,
        })
    }
}
