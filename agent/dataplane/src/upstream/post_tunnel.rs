//! A tunnel that was opened by `POST`: the client's bytes are the body of the request, in chunks, and what it gets is the
//! body of the answer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http1::BodyDecoder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::UpstreamStream;
use crate::transport::Transport;

/// What a chunk may hold: as much as the largest piece that relays move.
const LARGEST_CHUNK: usize = crate::buffer::BULK;

/// The bytes inside of the two bodies.
pub(crate) struct PostTunnel<'s> {
    stream: &'s mut UpstreamStream,
    answer: BodyDecoder,
    /// A chunk under way; without memory of its own while there is none.
    chunk: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    /// The last chunk is among what was to be sent.
    ended: bool,
}

impl<'s> PostTunnel<'s> {
    /// `answer` takes the framing off the body that comes next from `stream`.
    pub(crate) fn new(stream: &'s mut UpstreamStream, answer: BodyDecoder) -> Self {
        Self { stream, answer, chunk: Vec::new(), sent: 0, ended: false }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.chunk.len() {
            let n = ready!(Pin::new(&mut *self.stream).poll_write(cx, &self.chunk[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        (self.chunk, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Moves the data among `bytes` to their beginning, and tells how much it is.
    fn decode(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut read, mut data) = (0, 0);
        // What follows the body is nobody's.
        while read < bytes.len() && !self.answer.is_done() {
            let decoded = self.answer.decode(&bytes[read..]).map_err(invalid)?;
            let found = read + decoded.data.start..read + decoded.data.end;
            let len = found.len();
            bytes.copy_within(found, data);
            data += len;
            read += decoded.consumed;
        }
        Ok(data)
    }
}

impl Transport for PostTunnel<'_> {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.answer.is_done() {
            return Poll::Ready(Ok(()));
        }
        // Whether that is an error is for the read to say.
        self.stream.poll_readable(cx).map(|ready| ready.or_else(unless_ended))
    }

    fn reset_on_close(&self) {
        self.stream.reset_on_close();
    }

    fn has_ended(&self) -> bool {
        self.answer.is_done() || self.stream.has_ended()
    }

    fn unacknowledged(&self) -> u32 {
        self.stream.unacknowledged()
    }
}

impl AsyncRead for PostTunnel<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Bytes of framing alone are not an end.
        while !self.answer.is_done() && into.remaining() > 0 {
            let mut piece = ReadBuf::new(into.initialize_unfilled());
            ready!(Pin::new(&mut *self.stream).poll_read(cx, &mut piece)).or_else(unless_ended)?;
            let bytes = piece.filled_mut();
            if bytes.is_empty() {
                self.answer.end_of_input().map_err(invalid)?;
                break;
            }
            let n = self.decode(bytes)?;
            if n > 0 {
                into.advance(n);
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PostTunnel<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let n = bytes.len().min(LARGEST_CHUNK);
        http1::write_chunk(&mut self.chunk, &bytes[..n]);
        // What does not go now goes before the next chunk, or when the relay flushes.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    /// Ends the request and not the connection, which servers of HTTP take for a client that is gone.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        if !self.ended {
            self.ended = true;
            http1::write_last_chunk(&mut self.chunk);
        }
        self.poll_flush(cx)
    }
}

/// TLS that ends without saying so ends what came as a closed connection does; the body says whether that is all of it.
fn unless_ended(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) }
}

/// A body that is cut off or broken; not an end, for which a client could take it otherwise.
fn invalid(error: http1::BodyError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
