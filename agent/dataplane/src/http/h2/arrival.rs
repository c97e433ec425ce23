//! How far the frames of a client have arrived, and how far the client has come with ours. The codec tells of a head when it is whole, and of frames never; a client
//! that begins one and goes silent is known only from the bytes as they pass.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    inspect::HTTP2_PREFACE,
    transport::{DownstreamStream, Transport},
    untaken::Taken,
};

/// What has arrived of the client's preface, frames and heads.
pub(super) struct Arrival {
    frames: RefCell<Frames>,
    /// When what is not whole yet has begun, if that is the case.
    begun: Cell<Option<Instant>>,
    taken: Cell<Taken>,
    /// Whether the kernel is to be asked how much the client has acknowledged.
    asks: Cell<bool>,
}

impl Arrival {
    /// The preface is awaited from now on.
    pub(super) fn new() -> Rc<Self> {
        let begun = Cell::new(Some(Instant::now()));
        Rc::new(Self { frames: RefCell::default(), begun, taken: Cell::default(), asks: Cell::new(false) })
    }

    /// Has the kernel asked, the next time that the stream is read, how much the client has acknowledged.
    pub(super) fn ask_what_is_taken(&self) {
        self.asks.set(true);
    }

    /// How far the client had come when that was asked last.
    pub(super) fn taken(&self) -> Taken {
        self.taken.get()
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            let taken = self.taken.get();
            self.taken.set(Taken { written: taken.written + *bytes as u64, ..taken });
        }
    }

    /// How long the client may still take for what it has begun; `None` when all is whole.
    pub(super) fn remaining(&self, limit: Duration) -> Option<Duration> {
        self.begun.get().map(|begun| limit.saturating_sub(begun.elapsed()))
    }

    fn pass(&self, bytes: &[u8]) {
        let passed = self.frames.borrow_mut().pass(bytes);
        match passed {
            Passed { is_whole: true, .. } => self.begun.set(None),
            Passed { ended: false, .. } if self.begun.get().is_some() => {}
            Passed { .. } => self.begun.set(Some(Instant::now())),
        }
    }
}

/// A walk along the bytes of a connection, which keeps none of them but the head of a frame.
struct Frames {
    head: [u8; HEAD],
    /// Bytes of `head` that have arrived.
    known: usize,
    /// Bytes still to come of the preface or of a frame's payload.
    left: usize,
    kind: u8,
    /// Whether the head of a request, or its trailers, goes on in the next frame.
    is_in_block: bool,
    /// Whether the first frame, which is part of the preface (RFC 9113 §3.4), is whole.
    is_greeted: bool,
}

/// What bytes have brought.
#[derive(Debug, Eq, PartialEq)]
struct Passed {
    /// Whether something that had begun is whole now.
    ended: bool,
    /// Whether nothing is unfinished. Payload of DATA is not counted: bodies have limits of their own.
    is_whole: bool,
}

const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
/// No frame: what stands before the first one.
const PREFACE: u8 = u8::MAX;

impl Default for Frames {
    fn default() -> Self {
        let left = HTTP2_PREFACE.len();
        Self { head: [0; HEAD], known: 0, left, kind: PREFACE, is_in_block: false, is_greeted: false }
    }
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) -> Passed {
        let mut ended = false;
        while !bytes.is_empty() {
            let wanted = if self.left > 0 { self.left } else { HEAD - self.known };
            let (piece, rest) = bytes.split_at(wanted.min(bytes.len()));
            ended |= if self.left > 0 { self.payload(piece.len()) } else { self.begin(piece) };
            bytes = rest;
        }
        let is_within = self.known > 0 || (self.left > 0 && self.kind != DATA);
        Passed { ended, is_whole: !is_within && !self.is_in_block && self.is_greeted }
    }

    /// Takes bytes of a frame's head; whether they made something whole.
    fn begin(&mut self, piece: &[u8]) -> bool {
        self.head[self.known..self.known + piece.len()].copy_from_slice(piece);
        self.known += piece.len();
        if self.known < HEAD {
            return false;
        }
        let [a, b, c, kind, flags, ..] = self.head;
        self.known = 0;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.kind = kind;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_in_block = flags & END_HEADERS == 0;
        }
        self.left == 0 && self.end()
    }

    /// Passes over `n` bytes of a payload; whether they made something whole.
    fn payload(&mut self, n: usize) -> bool {
        self.left -= n;
        self.left == 0 && self.end()
    }

    fn end(&mut self) -> bool {
        self.is_greeted |= self.kind != PREFACE;
        self.is_greeted && !self.is_in_block
    }
}

/// A client's stream, whose bytes are walked along as they are read.
pub(super) struct Observed<S = DownstreamStream> {
    stream: S,
    arrival: Rc<Arrival>,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, arrival: &Rc<Arrival>) -> Self {
        Self { stream, arrival: Rc::clone(arrival) }
    }
}

impl<S: Transport> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.arrival.asks.replace(false) {
            let unacknowledged = self.stream.unacknowledged();
            self.arrival.taken.set(Taken { unacknowledged, ..self.arrival.taken.get() });
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        self.arrival.pass(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.arrival.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.arrival.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], payload].concat()
    }

    fn greeted() -> Frames {
        let mut frames = Frames::default();
        let greeting = [HTTP2_PREFACE, &frame(SETTINGS, 0, &[])].concat();
        assert_eq!(frames.pass(&greeting), WHOLE);
        frames
    }

    const WHOLE: Passed = Passed { ended: true, is_whole: true };
    const BEGUN: Passed = Passed { ended: false, is_whole: false };

    #[test]
    fn a_preface_is_whole_with_its_settings() {
        let mut frames = Frames::default();
        assert_eq!(frames.pass(&HTTP2_PREFACE[..10]), BEGUN);
        assert_eq!(frames.pass(&HTTP2_PREFACE[10..]), BEGUN);
        assert_eq!(frames.pass(&frame(SETTINGS, 0, b"123456")), WHOLE);
    }

    #[test]
    fn a_head_is_whole_with_its_last_continuation() {
        let mut frames = greeted();
        assert_eq!(frames.pass(&frame(HEADERS, 0, b"ab")), BEGUN);
        assert_eq!(frames.pass(&frame(CONTINUATION, 0, b"c")), BEGUN);
        let last = frame(CONTINUATION, END_HEADERS, b"def");
        assert_eq!(frames.pass(&last[..11]), BEGUN);
        assert_eq!(frames.pass(&last[11..]), WHOLE);
    }

    #[test]
    fn cuts_anywhere_come_to_the_same() {
        let all = [frame(HEADERS, 0, b"abc"), frame(CONTINUATION, END_HEADERS, b""), frame(PING, 0, &[0; 8])];
        let all = all.concat();
        for cut in 1..all.len() {
            let mut frames = greeted();
            let first = frames.pass(&all[..cut]);
            // The head ends with its 21st byte.
            assert_eq!(first, Passed { ended: cut >= 21, is_whole: cut == 21 }, "cut at {cut}");
            assert_eq!(frames.pass(&all[cut..]), WHOLE, "cut at {cut}");
        }
    }

    #[test]
    fn bodies_are_not_waited_for() {
        let mut frames = greeted();
        let data = frame(DATA, 0, b"body");
        assert_eq!(frames.pass(&data[..4]), BEGUN);
        assert_eq!(frames.pass(&data[4..11]), Passed { ended: false, is_whole: true });
    }

    #[test]
    fn time_runs_from_the_first_byte_of_what_is_unfinished() {
        let arrival = Arrival::new();
        let limit = Duration::from_secs(60);
        assert!(arrival.remaining(limit).is_some());
        arrival.pass(&[HTTP2_PREFACE, &frame(SETTINGS, 0, &[])].concat());
        assert_eq!(arrival.remaining(limit), None);
        arrival.pass(&frame(HEADERS, 0, b"a"));
        let begun = arrival.begun.get();
        arrival.pass(&frame(CONTINUATION, 0, b"a"));
        assert_eq!((arrival.begun.get(), begun.is_some()), (begun, true));
        std::thread::sleep(Duration::from_millis(1));
        arrival.pass(&[frame(CONTINUATION, END_HEADERS, b"a"), frame(HEADERS, 0, b"a")].concat());
        assert!(arrival.begun.get() > begun);
    }
}
