//! Moves bodies between HTTP/2 frames and connections that carry bytes.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http1::{BodyDecoder, BodyLength};
use tokio::io::{AsyncRead, AsyncWrite};

use super::pump::PumpError;
use crate::buffer::{BufferPool, LARGE, PooledBuffer, SMALL};

/// A body that comes in frames and goes out as bytes, in chunks if its length is not known.
pub(super) struct FramesToBytes {
    from: RecvStream,
    chunks: bool,
    framed: Vec<u8>,
    written: usize,
    ended: bool,
    /// Bytes of data so far, without framing.
    pub(super) data: u64,
}

impl FramesToBytes {
    /// A body that is to go out as `to` says.
    pub(super) fn new(from: RecvStream, to: BodyLength) -> Self {
        let (chunks, ended) = (to == BodyLength::Chunked, to.is_empty());
        Self { from, chunks, framed: Vec::new(), written: 0, ended, data: 0 }
    }

    /// Whether the receiver has got everything.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.framed.is_empty()
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

    /// Moves as much as both sides allow; ready when the receiver has got everything.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            let gathered = self.poll_gather(cx)?;
            ready!(self.poll_write(cx, to)).map_err(|_| PumpError::Write)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(gathered);
        }
    }

    /// Takes the frames that have come, as many as are worth a write. Ready when there may be more.
    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        while !self.ended && self.framed.len() < LARGE {
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(data)) => self.take(&data),
                Some(Err(_)) => return Poll::Ready(Err(PumpError::Read)),
                None => {
                    // Trailers have no place in a body of known length, and HTTP/1 peers rarely want them.
                    ready!(self.from.poll_trailers(cx)).map_err(|_| PumpError::Read)?;
                    self.ended = true;
                    if self.chunks {
                        http1::write_last_chunk(&mut self.framed);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, data: &Bytes) {
        release(&mut self.from, data.len());
        self.data += data.len() as u64;
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
                n => self.written += n,
            }
        }
        self.framed.clear();
        self.written = 0;
        Pin::new(to).poll_flush(cx)
    }
}

/// Lets the sender send as much again. What was received is handed on at once, or not asked for.
fn release(from: &mut RecvStream, len: usize) {
    // Fails only for more than was received.
    _ = from.flow_control().release_capacity(len);
}

/// A body that comes as bytes and goes out in frames.
pub(super) struct BytesToFrames {
    decoder: BodyDecoder,
    to: SendStream<Bytes>,
    ended: bool,
    /// Bytes of data so far, without framing.
    pub(super) data: u64,
}

impl BytesToFrames {
    /// A body that comes as `from` says; empty ones have ended with their head.
    pub(super) fn new(from: BodyLength, to: SendStream<Bytes>) -> Self {
        Self { decoder: BodyDecoder::new(from), to, ended: from.is_empty(), data: 0 }
    }

    /// Moves as much as both sides allow; ready when all of it is on its way to the receiver.
    pub(super) fn poll<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        (buffer, pool): (&mut PooledBuffer, &Rc<BufferPool>),
        from: &mut R,
    ) -> Poll<Result<(), PumpError>> {
        while !self.ended {
            ready!(poll_room(cx, &mut self.to)).map_err(|_| PumpError::Write)?;
            if buffer.is_empty() && !self.decoder.is_done() {
                ready!(self.poll_read(cx, (buffer, pool), from))?;
            }
            self.send(buffer)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        (buffer, pool): (&mut PooledBuffer, &Rc<BufferPool>),
        from: &mut R,
    ) -> Poll<Result<(), PumpError>> {
        if buffer.is_small() && self.decoder.contiguous() > SMALL as u64 {
            *buffer = pool.large();
        }
        if ready!(buffer.poll_fill(cx, from)).map_err(|_| PumpError::Read)? == 0 {
            self.decoder.end_of_input().map_err(PumpError::Body)?;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, buffer: &mut PooledBuffer) -> Result<(), PumpError> {
        let decoded = self.decoder.decode(buffer.filled()).map_err(PumpError::Body)?;
        let data = Bytes::copy_from_slice(&buffer.filled()[decoded.data]);
        buffer.consume(decoded.consumed);
        if data.is_empty() && !decoded.done {
            return Ok(());
        }
        self.data += data.len() as u64;
        self.ended = decoded.done;
        self.to.send_data(data, decoded.done).map_err(|_| PumpError::Write)
    }

    /// Tells the receiver that the rest will not come.
    pub(super) fn reset(&mut self) {
        self.to.send_reset(h2::Reason::INTERNAL_ERROR);
    }
}

/// Ready when the receiver takes something more. Fails when it does not want the rest, which it may also say while
/// there is room.
fn poll_room(cx: &mut Context<'_>, to: &mut SendStream<Bytes>) -> Poll<Result<(), Refused>> {
    if to.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Refused));
    }
    to.reserve_capacity(1);
    while to.capacity() == 0 {
        match ready!(to.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Refused)),
        }
    }
    Poll::Ready(Ok(()))
}

/// The receiver of a stream takes no more of it.
struct Refused;
