//! Bodies between an HTTP/1 client and an HTTP/2 endpoint.

use std::{future::poll_fn, task::Poll};

use http1::BodyLength;

use super::{Sending, Session, write_head};
use crate::{
    http::{
        exchange::{Http2Exchange, RequestBody, Uplink},
        frames::FramePump,
        pump::{Pump, PumpError},
    },
    transport::Transport,
};

impl<S: Transport> Session<'_, S> {
    /// Writes the head of an answer, which is in `out`, and moves the rest of both bodies. Tells in `passed` how much
    /// the client got of its own.
    pub(super) async fn move_frames(
        &mut self,
        exchange: Http2Exchange,
        sent: &mut Pump,
        (framing, passed): (BodyLength, &mut u64),
        out: &mut Vec<u8>,
    ) -> Result<(), PumpError> {
        let Some((mut to, from, _room)) = exchange.into_streams() else { return Err(PumpError::Read) };
        let mut body = FramePump::new(from, framing);
        poll_fn(|cx| Poll::Ready(body.stage(cx, out))).await?;
        write_head(self.connection, self.stream, out).await?;
        let worker = self.connection.worker();
        let (pool, deadline) = (&worker.buffers, &*self.connection.deadline);
        let idle_timeout = worker.settings.idle_timeout;
        deadline.set(idle_timeout);
        let moved = poll_fn(|cx| {
            let before = sent.data + body.data;
            let received = &mut self.received;
            let mut sending =
                Sending { pump: sent, received, stream: &mut *self.stream, pool, deadline, idle_timeout };
            match sending.poll_send(cx, Uplink::Http2(&mut to)) {
                Poll::Ready(Ok(()) | Err(PumpError::Idle)) | Poll::Pending => {}
                Poll::Ready(Err(_)) => {
                    sent.abandon();
                    return Poll::Ready(Err(PumpError::Write));
                }
            }
            let moved = body.poll(cx, self.stream);
            *passed = body.data;
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
}
