//! Moves one body out of HTTP/2 frames, into frames again or into HTTP/1 framing.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use ::http::HeaderMap;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http1::{BodyError, BodyLength};
use tokio::io::AsyncWrite;

use super::{
    exchange::Sent,
    fields::grpc_status,
    flow_control::{poll_room, release},
    grpc_web::{GrpcWeb, NotBase64, Unbase64},
    messages::Messages,
    pump::{PumpError, Standing},
    retained::{BodyBudget, RetainedBody},
    trailers::poll_trailers,
};
use crate::buffer::LARGE;

pub(crate) use crate::bounds::FRAME;

/// How much has passed of a body that comes in frames.
#[derive(Clone, Copy, Default)]
pub(super) struct Passed {
    /// Bytes of data, without framing.
    pub(super) data: u64,
    /// Messages of a gRPC call.
    pub(super) messages: u64,
    /// Status of a gRPC call, from its trailers.
    pub(super) grpc_status: Option<u8>,
}

/// A body under way that comes in frames. One that comes as bytes is a [`Pump`](super::pump::Pump).
pub(super) struct FramePump {
    from: RecvStream,
    /// Whether a receiver of bytes gets chunks.
    chunks: bool,
    /// Bytes that a receiver of bytes was told of.
    announced: Option<u64>,
    /// Bytes in the receiver's framing.
    framed: Vec<u8>,
    written: usize,
    ended: bool,
    /// Whether the receiver stopped taking it; the body is then never done.
    abandoned: bool,
    /// Whether the receiver takes nothing more for now.
    blocked: bool,
    kept: RetainedBody,
    /// Bytes handed on that the sender was not given room for again: its receiver may not have taken them.
    unreleased: usize,
    /// Bytes of data so far, without framing.
    pub(super) data: u64,
    /// Status of a gRPC call, from the trailers that have passed.
    grpc_status: Option<u8>,
    /// Counts the messages of a gRPC call.
    messages: Option<Messages>,
    keeps_trailers: bool,
    kept_trailers: Option<HeaderMap>,
    /// How a client of gRPC-Web gets it.
    grpc_web: Option<GrpcWeb>,
    /// Undoes base64, if there is any.
    unbase64: Option<Box<Unbase64>>,
}

impl FramePump {
    /// A body that is to go out as `to` says.
    pub(super) fn new(from: RecvStream, to: BodyLength) -> Self {
        let announced = if let BodyLength::Length(length) = to { Some(length) } else { None };
        Self {
            from,
            chunks: to == BodyLength::Chunked,
            announced,
            framed: Vec::new(),
            written: 0,
            ended: to.is_empty(),
            abandoned: false,
            blocked: false,
            kept: RetainedBody::default(),
            unreleased: 0,
            data: 0,
            grpc_status: None,
            messages: None,
            keeps_trailers: false,
            kept_trailers: None,
            grpc_web: None,
            unbase64: None,
        }
    }

    /// Sends it as a client of gRPC-Web gets it: with trailers as part of the body.
    pub(super) fn encode(&mut self, grpc_web: Option<GrpcWeb>) {
        self.grpc_web = grpc_web;
    }

    /// Takes it for base64, which its receiver does not want.
    pub(super) fn unbase64(&mut self) {
        self.unbase64 = Some(Box::default());
    }

    /// Counts the messages of a gRPC call from here on, for [`Self::passed`].
    pub(super) fn count_messages(&mut self, is_grpc: bool) {
        self.messages = is_grpc.then(Messages::default);
    }

    /// How much has passed so far.
    pub(super) fn passed(&self) -> Passed {
        let messages = self.messages.as_ref().map_or(0, Messages::begun);
        Passed { data: self.data, messages, grpc_status: self.grpc_status }
    }

    /// Counts what was received, unless it is sent as something else.
    fn count(&mut self, received: &[u8]) {
        if self.grpc_web.is_none() {
            self.data += received.len() as u64;
        }
        // What is base64 is counted once that is undone.
        if self.unbase64.is_none() {
            self.count_messages_of(received);
        }
    }

    fn count_messages_of(&mut self, data: &[u8]) {
        if let Some(messages) = &mut self.messages {
            messages.pass(data);
        }
    }

    /// A frame in place of trailers, if that is how they go.
    fn trailer_frame(&mut self, trailers: &HeaderMap) -> Option<Bytes> {
        let frame = self.grpc_web?.trailers(trailers);
        self.data += frame.len() as u64;
        Some(frame)
    }

    fn converted(&mut self, data: Bytes) -> Result<Bytes, PumpError> {
        match (&mut self.unbase64, self.grpc_web) {
            (Some(text), _) => {
                let decoded = text.decode_last_if(self.ended, &data).map_err(|NotBase64| PumpError::Text)?;
                self.count_messages_of(&decoded);
                Ok(decoded)
            }
            (None, Some(web)) => {
                let encoded = web.encoded(data);
                self.data += encoded.len() as u64;
                Ok(encoded)
            }
            (None, None) => Ok(data),
        }
    }

    /// Says that no more data comes.
    ///
    /// # Errors
    /// It was base64 whose last group is cut off.
    fn end_of_data(&self) -> Result<(), PumpError> {
        let is_whole = self.unbase64.as_ref().is_none_or(|text| text.is_whole());
        if is_whole { Ok(()) } else { Err(PumpError::Text) }
    }

    /// Keeps what is sent, for another receiver.
    pub(super) fn keep(&mut self, room: &Rc<BodyBudget>) {
        self.kept.begin(room);
    }

    /// Lets go of what was kept: there will be no other receiver.
    pub(super) fn forget(&mut self) {
        self.kept.forget();
    }

    /// Keeps a copy of trailers that pass, for [`Self::kept_trailers`].
    pub(super) fn keep_trailers(&mut self) {
        self.keeps_trailers = true;
    }

    /// Trailers that have passed.
    pub(super) fn kept_trailers(&self) -> Option<&HeaderMap> {
        self.kept_trailers.as_ref()
    }

    /// Gets ready for another receiver, which first gets what was [`sent`](Self::sent). False when that is lost.
    pub(super) fn rewind(&mut self) -> bool {
        self.abandoned = false;
        self.kept.is_whole()
    }

    /// What has been sent.
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent { bytes: self.kept.bytes(), trailers: self.kept.trailers(), ended: self.ended }
    }

    /// Where it comes from: what follows when it has ended, once another protocol is agreed on.
    pub(super) fn stream(&mut self) -> &mut RecvStream {
        &mut self.from
    }

    /// Whether the receiver has got everything.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.framed.is_empty() && !self.abandoned
    }

    /// How it stands while it does not move.
    pub(super) fn standing(&mut self) -> Standing {
        let held = if self.blocked { self.held() } else { 0 };
        Standing { moved: self.data, held }
    }

    /// Bytes that it holds: what has come and was not handed on, at least one frame.
    fn held(&mut self) -> usize {
        self.framed.capacity() + self.from.flow_control().used_capacity().max(FRAME)
    }

    /// Gives up: the receiver does not want the rest.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Whether there is anything left to move.
    pub(super) fn is_moving(&self) -> bool {
        !self.is_done() && !self.abandoned
    }

    /// Puts what has arrived behind a head that is about to be written, so that both leave in one write.
    pub(super) fn stage(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Result<(), PumpError> {
        std::mem::swap(&mut self.framed, out);
        let gathered = self.poll_gather(cx);
        std::mem::swap(&mut self.framed, out);
        match gathered {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Moves as much as both sides allow, as bytes; ready when the receiver has got everything. Trailers are dropped.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            // What came before a failure is not written: the receiver is told of the failure instead.
            let gathered = self.poll_gather(cx)?;
            let written = self.poll_write(cx, to);
            self.blocked = written.is_pending();
            ready!(written).map_err(|_| PumpError::Write)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(gathered);
        }
    }

    /// Moves as much as both sides allow, as frames and with trailers; ready when all is on its way to the receiver.
    pub(super) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), PumpError>> {
        while !self.ended {
            let room = poll_room(cx, to);
            self.blocked = room.is_pending();
            ready!(room)?;
            // There is room again, so that what was handed on before is on its way.
            release(&mut self.from, std::mem::take(&mut self.unreleased));
            let sent = match ready!(self.from.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.count(&data);
                    self.ended = self.from.is_end_stream();
                    match self.ended {
                        // Others of its connection may have the room.
                        true => release(&mut self.from, data.len()),
                        false => self.unreleased = data.len(),
                    }
                    let data = self.converted(data)?;
                    self.kept.note(&data);
                    to.send_data(data, self.ended)
                }
                Some(Err(error)) => return Poll::Ready(Err(PumpError::of_frames(&error))),
                None => {
                    let trailers = ready!(poll_trailers(&mut self.from, cx))?;
                    self.end_of_data()?;
                    self.ended = true;
                    match trailers {
                        Some(trailers) => {
                            self.kept.note_trailers(&trailers);
                            self.grpc_status = grpc_status(&trailers);
                            self.kept_trailers = self.keeps_trailers.then(|| trailers.clone());
                            match self.trailer_frame(&trailers) {
                                Some(frame) => to.send_data(frame, true),
                                None => to.send_trailers(trailers),
                            }
                        }
                        None => to.send_data(Bytes::new(), true),
                    }
                }
            };
            sent.map_err(|_| PumpError::Write)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the frames that have come, as many as are worth a write. Ready when there may be more.
    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        while !self.ended && self.framed.len() < LARGE {
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(data)) => {
                    release(&mut self.from, data.len());
                    self.count(&data);
                    let data = self.converted(data)?;
                    self.take(&data);
                }
                Some(Err(error)) => return Poll::Ready(Err(PumpError::of_frames(&error))),
                None => {
                    // Trailers have no place in a body of known length, and HTTP/1 peers rarely want them.
                    let trailers = ready!(poll_trailers(&mut self.from, cx))?;
                    self.end_of_data()?;
                    if let Some(trailers) = trailers
                        && let Some(frame) = self.trailer_frame(&trailers)
                    {
                        self.grpc_status = grpc_status(&trailers);
                        self.take(&frame);
                    }
                    self.end()?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) -> Result<(), PumpError> {
        if self.announced.is_some_and(|announced| announced != self.data) {
            return Err(PumpError::Body(BodyError::Truncated));
        }
        self.ended = true;
        if self.chunks {
            http1::write_last_chunk(&mut self.framed);
        }
        Ok(())
    }

    fn take(&mut self, data: &[u8]) {
        if self.chunks {
            http1::write_chunk(&mut self.framed, data);
        } else {
            self.framed.extend_from_slice(data);
        }
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.written < self.framed.len() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.framed[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => {
                    self.kept.note(&self.framed[self.written..self.written + n]);
                    self.written += n;
                }
            }
        }
        self.framed.clear();
        self.written = 0;
        Pin::new(to).poll_flush(cx)
    }
}
