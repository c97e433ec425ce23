//! Moves one body out of HTTP/1 framing, into that of another connection or into HTTP/2 frames.

mod error;

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::SendStream;
use http1::{BodyDecoder, BodyError, BodyLength};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    exchange::Sent,
    flow_control::poll_room,
    frames::FRAME,
    grpc_web::{NotBase64, Unbase64},
    messages::Messages,
    retained::{BodyBudget, RetainedBody},
};
use crate::{
    buffer::{BufferPool, LARGE, PooledBuffer, SMALL},
    untaken::{Held, Progress, Taken},
};

pub(super) use error::PumpError;

/// A body under way.
pub(super) struct Pump {
    decoder: BodyDecoder,
    /// Whether the receiver gets chunks.
    chunks: bool,
    /// Whether bytes can go from the buffer to the receiver as they are.
    verbatim: bool,
    /// Bytes at the start of the buffer that the receiver may have.
    ready: usize,
    /// Bytes in the receiver's framing, when they are not those of the buffer.
    framed: Vec<u8>,
    written: usize,
    ended: bool,
    /// Whether the receiver stopped taking it; the body is then never done.
    abandoned: bool,
    /// Whether the receiver has no room, so that the sender is not read from.
    blocked: bool,
    /// Whether it makes do with a small buffer, however much comes.
    small: bool,
    kept: RetainedBody,
    /// Undoes base64 on the way into frames, if there is any.
    unbase64: Option<Box<Unbase64>>,
    /// Counts the messages of a gRPC call.
    messages: Option<Box<Messages>>,
    /// Bytes of data so far, without framing.
    pub(super) data: u64,
}

impl Pump {
    /// A body that comes as `from` says and is to go out as `to` says.
    pub(super) fn new(from: BodyLength, to: BodyLength) -> Self {
        let chunks = to == BodyLength::Chunked;
        Self {
            decoder: BodyDecoder::new(from),
            chunks,
            verbatim: !chunks && from != BodyLength::Chunked,
            ready: 0,
            framed: Vec::new(),
            written: 0,
            ended: from.is_empty(),
            abandoned: false,
            blocked: false,
            small: false,
            kept: RetainedBody::default(),
            unbase64: None,
            messages: None,
            data: 0,
        }
    }

    /// Takes the body for base64, which frames do not have.
    pub(super) fn unbase64(&mut self) {
        self.unbase64 = Some(Box::default());
    }

    /// Has it make do with a small buffer, or not.
    pub(super) fn stay_small(&mut self, small: bool) {
        self.small = small;
    }

    /// Counts the messages of a gRPC call from here on.
    pub(super) fn count_messages(&mut self, is_grpc: bool) {
        self.messages = is_grpc.then(Box::default);
    }

    /// Messages that have passed.
    pub(super) fn messages(&self) -> u64 {
        self.messages.as_ref().map_or(0, |messages| messages.begun())
    }

    fn count(&mut self, data: &[u8]) {
        self.data += data.len() as u64;
        if let Some(messages) = &mut self.messages {
            messages.pass(data);
        }
    }

    /// Keeps what is sent, for another receiver.
    pub(super) fn keep(&mut self, room: &Rc<BodyBudget>) {
        self.kept.begin(room);
    }

    /// Lets go of what was kept: there will be no other receiver.
    pub(super) fn forget(&mut self) {
        self.kept.forget();
    }

    /// Gets ready for another receiver, which first gets what was [`sent`](Self::sent). False when that is lost.
    pub(super) fn rewind(&mut self) -> bool {
        self.abandoned = false;
        self.kept.is_whole()
    }

    /// What has been sent.
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent { bytes: self.kept.bytes(), trailers: None, ended: self.ended }
    }

    /// Whether the receiver has got everything.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.ready == 0 && self.written == self.framed.len() && !self.abandoned
    }

    /// Whether the sender has sent everything, whatever the receiver has got: what follows is something else.
    pub(super) fn has_ended(&self) -> bool {
        self.ended && self.ready == 0
    }

    /// Gives up: the receiver does not want the rest.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Whether there is anything left to move.
    pub(super) fn is_moving(&self) -> bool {
        !self.is_done() && !self.abandoned
    }

    /// Whether it waits for its receiver, and the sender is not read from meanwhile.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Bytes that it holds beside its buffer.
    pub(super) fn held(&self) -> usize {
        self.framed.capacity()
    }

    /// Puts what the buffer holds of the body behind a head that is about to be written, so that both leave in one
    /// write.
    pub(super) fn stage(&mut self, buffer: &mut PooledBuffer, out: &mut Vec<u8>) -> Result<(), BodyError> {
        while !self.ended && !buffer.is_empty() {
            let decoded = self.decoder.decode(buffer.filled())?;
            self.append(&buffer.filled()[decoded.data.clone()], out);
            if decoded.consumed == 0 && !decoded.done {
                break;
            }
            buffer.consume(decoded.consumed);
            self.finish_if(decoded.done, out);
        }
        Ok(())
    }

    /// Moves as much as both sides allow; ready when the receiver has got everything.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        (buffer, pool): (&mut PooledBuffer, &Rc<BufferPool>),
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), PumpError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let written = self.poll_write(cx, buffer, to);
            self.blocked = written.is_pending();
            ready!(written).map_err(|_| PumpError::Write)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if buffer.is_empty() {
                ready!(self.poll_read(cx, (buffer, pool), from))?;
            } else {
                self.decode(buffer).map_err(PumpError::Body)?;
            }
        }
    }

    /// Moves as much as both sides allow into frames; ready when all of it is on its way to the receiver.
    pub(super) fn poll_frames<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        (buffer, pool): (&mut PooledBuffer, &Rc<BufferPool>),
        from: &mut R,
        to: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), PumpError>> {
        while !self.ended {
            let room = poll_room(cx, to);
            self.blocked = room.is_pending();
            ready!(room)?;
            if buffer.is_empty() {
                ready!(self.poll_read(cx, (buffer, pool), from))?;
            }
            let data = self.next_data(buffer)?;
            if !data.is_empty() || self.ended {
                self.kept.note(&data);
                to.send_data(data, self.ended).map_err(|_| PumpError::Write)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn next_data(&mut self, buffer: &mut PooledBuffer) -> Result<Bytes, PumpError> {
        if self.ended {
            return Ok(Bytes::new());
        }
        let filled = buffer.filled();
        let decoded = self.decoder.decode(&filled[..filled.len().min(FRAME)]).map_err(PumpError::Body)?;
        let data = Bytes::copy_from_slice(&filled[decoded.data]);
        buffer.consume(decoded.consumed);
        self.ended = decoded.done;
        let Some(text) = &mut self.unbase64 else {
            self.count(&data);
            return Ok(data);
        };
        self.data += data.len() as u64;
        let decoded = text.decode_last_if(self.ended, &data).map_err(|NotBase64| PumpError::Text)?;
        if let Some(messages) = &mut self.messages {
            messages.pass(&decoded);
        }
        Ok(decoded)
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut PooledBuffer,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.written < self.framed.len() {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, &self.framed[self.written..]))?;
            self.kept.note(&self.framed[self.written..self.written + n]);
            self.written += nonzero(n)?;
        }
        self.framed.clear();
        self.written = 0;
        while self.ready > 0 {
            let n = ready!(Pin::new(&mut *to).poll_write(cx, &buffer.filled()[..self.ready]))?;
            self.kept.note(&buffer.filled()[..n]);
            self.ready -= nonzero(n)?;
            buffer.consume(n);
        }
        Pin::new(to).poll_flush(cx)
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        (buffer, pool): (&mut PooledBuffer, &Rc<BufferPool>),
        from: &mut R,
    ) -> Poll<Result<(), PumpError>> {
        let is_long = self.decoder.contiguous() > SMALL as u64;
        if buffer.is_small() && is_long && !self.small && pool.affordable(LARGE) == LARGE {
            *buffer = pool.large();
        }
        let filled = ready!(buffer.poll_fill(cx, from)).or_else(|_| self.end_cut_off())?;
        if filled == 0 {
            self.decoder.end_of_input().map_err(PumpError::Body)?;
            let mut framed = std::mem::take(&mut self.framed);
            self.finish_if(true, &mut framed);
            self.framed = framed;
        }
        Poll::Ready(Ok(()))
    }

    /// What it means that the sender's connection has failed, be it reset or TLS whose end was not announced: a body whose
    /// framing says that more should come is cut off, as at the end of the connection, and one without is not whole
    /// (RFC 9112 §9.8).
    fn end_cut_off(&mut self) -> Result<usize, PumpError> {
        self.decoder.end_of_input().map_err(PumpError::Body)?;
        Err(PumpError::Read)
    }

    fn decode(&mut self, buffer: &mut PooledBuffer) -> Result<(), BodyError> {
        let decoded = self.decoder.decode(buffer.filled())?;
        if self.verbatim {
            self.ready = decoded.data.len();
            self.count(&buffer.filled()[decoded.data]);
            self.ended = decoded.done;
            return Ok(());
        }
        let mut framed = std::mem::take(&mut self.framed);
        self.append(&buffer.filled()[decoded.data], &mut framed);
        buffer.consume(decoded.consumed);
        self.finish_if(decoded.done, &mut framed);
        self.framed = framed;
        Ok(())
    }

    fn append(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.count(data);
        if self.chunks {
            http1::write_chunk(out, data);
        } else {
            out.extend_from_slice(data);
        }
    }

    fn finish_if(&mut self, done: bool, out: &mut Vec<u8>) {
        if done && !self.ended {
            self.ended = true;
            if self.chunks {
                http1::write_last_chunk(out);
            }
        }
    }
}

/// How a body stands that does not move.
#[derive(Clone, Copy, Default)]
pub(super) struct Standing {
    /// Bytes of data so far.
    pub(super) moved: u64,
    /// Bytes that are held for a receiver which takes no more for now.
    pub(super) held: usize,
}

impl Standing {
    /// What is held, for a client that has come so far with its connection.
    pub(super) fn held_for(self, connection: u64, taken: Taken) -> Held {
        Held { connection, bytes: self.held, progress: Progress { moved: self.moved, taken } }
    }
}

fn nonzero(n: usize) -> io::Result<usize> {
    if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pumped(
        from: BodyLength,
        to: BodyLength,
        mut source: impl AsyncRead + Unpin,
    ) -> (Vec<u8>, Result<(), PumpError>) {
        let pool = Rc::new(BufferPool::default());
        let mut buffer = pool.small();
        let mut pump = Pump::new(from, to);
        let mut out = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let result = runtime
            .block_on(std::future::poll_fn(|cx| pump.poll(cx, (&mut buffer, &pool), &mut source, &mut out)));
        (out, result)
    }

    /// A connection that is reset behind these bytes.
    struct Reset(&'static [u8]);

    impl AsyncRead for Reset {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    #[test]
    fn chunks_are_made_anew_without_extensions_and_trailers() {
        let input = &b"4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: 1\r\n\r\nnext"[..];
        let (out, result) = pumped(BodyLength::Chunked, BodyLength::Chunked, input);
        assert_eq!(result, Ok(()));
        assert_eq!(out, b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n");
        let (out, _) = pumped(BodyLength::Chunked, BodyLength::UntilClose, input);
        assert_eq!(out, b"Wikipedia");
    }

    #[test]
    fn a_body_that_ends_with_its_connection_becomes_chunks() {
        let (out, result) = pumped(BodyLength::UntilClose, BodyLength::Chunked, &b"abc"[..]);
        assert_eq!((out.as_slice(), result), (&b"3\r\nabc\r\n0\r\n\r\n"[..], Ok(())));
    }

    #[test]
    fn a_body_of_known_length_goes_through_as_it_is_and_no_further() {
        let body: Vec<u8> = (0..200_000).map(|i: u32| i as u8).collect();
        let length = BodyLength::Length(199_990);
        let (out, result) = pumped(length, length, &body[..]);
        assert_eq!(result, Ok(()));
        assert!(out == body[..199_990]);
    }

    #[test]
    fn nothing_of_a_body_stays_behind_in_a_writer_that_buffers() {
        let pool = Rc::new(BufferPool::default());
        let (mut buffer, mut source) = (pool.small(), &b"abc"[..]);
        let mut pump = Pump::new(BodyLength::Length(3), BodyLength::Length(3));
        let mut out = tokio::io::BufWriter::new(Vec::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let moved = pump.poll(&mut cx, (&mut buffer, &pool), &mut source, &mut out);
        assert_eq!((moved, out.get_ref().as_slice()), (Poll::Ready(Ok(())), &b"abc"[..]));
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        let (out, result) = pumped(BodyLength::Length(5), BodyLength::Length(5), &b"abc"[..]);
        assert_eq!(out, b"abc");
        assert_eq!(result, Err(PumpError::Body(BodyError::Truncated)));
    }

    #[test]
    fn a_body_whose_connection_is_reset_is_not_whole() {
        for (length, error) in [
            (BodyLength::Length(5), PumpError::Body(BodyError::Truncated)),
            (BodyLength::Chunked, PumpError::Body(BodyError::Truncated)),
            (BodyLength::UntilClose, PumpError::Read),
        ] {
            let (_, result) = pumped(length, BodyLength::Chunked, Reset(b"3\r\n"));
            assert_eq!(result, Err(error), "{length:?}");
        }
    }

    #[test]
    fn what_has_arrived_leaves_with_the_head() {
        let pool = Rc::new(BufferPool::default());
        let mut buffer = pool.small();
        buffer.append(b"2\r\nab\r\n0\r\n\r\nGET");
        let mut pump = Pump::new(BodyLength::Chunked, BodyLength::Chunked);
        let mut out = b"head ".to_vec();
        pump.stage(&mut buffer, &mut out).unwrap();
        assert_eq!(out, b"head 2\r\nab\r\n0\r\n\r\n");
        assert!(pump.is_done());
        assert_eq!((buffer.filled(), pump.data), (&b"GET"[..], 2));
    }
}
