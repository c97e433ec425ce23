//! Read buffers, pooled per worker so that idle connections own none.

use std::{
    cell::Cell,
    io,
    ops::{Deref, DerefMut},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::{bounds, free_list::FreeList, overload::Overload, transport::Transport};

/// Capacities of buffers, told apart by what they are for.
pub(crate) use crate::bounds::{BULK_BUFFER as BULK, LARGE_BUFFER as LARGE, SMALL_BUFFER as SMALL};

/// Received bytes not yet used: a window into a fixed piece of memory.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into_boxed_slice(), start: 0, end: 0 }
    }

    /// Bytes received and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the unconsumed bytes take all the room there is.
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// Forgets the first `n` unconsumed bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Appends what fits and returns how much that was.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let n = bytes.len().min(room.len());
        room[..n].copy_from_slice(&bytes[..n]);
        self.end += n;
        n
    }

    /// Reads once into the free room: the number of bytes, zero at the end of the stream or when the buffer is full.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
    ) -> Poll<io::Result<usize>> {
        let mut window = ReadBuf::new(self.room());
        ready!(Pin::new(from).poll_read(cx, &mut window))?;
        let n = window.filled().len();
        self.end += n;
        Poll::Ready(Ok(n))
    }

    /// The free room, made contiguous when the window has moved away from the start.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }
}

/// Spare buffers of one worker.
pub(crate) struct BufferPool {
    small: FreeList<Buffer>,
    large: FreeList<Buffer>,
    bulk: FreeList<Buffer>,
    /// Buffers of [`LARGE`] and [`BULK`] that are in use.
    lent: [Cell<usize>; 2],
    overload: Overload,
}

impl Default for BufferPool {
    fn default() -> Self {
        Self::new(Overload::default())
    }
}

impl BufferPool {
    /// One that `overload` tells when memory is short.
    pub(crate) fn new(overload: Overload) -> Self {
        let [small, large, bulk] = bounds::SPARE_BUFFERS.map(FreeList::new);
        Self { small, large, bulk, lent: Default::default(), overload }
    }

    /// The size up to `capacity` that somebody may have for whom a larger one only saves time.
    pub(crate) fn affordable(&self, capacity: usize) -> usize {
        let [large, bulk] = bounds::LENT_BUFFERS;
        if self.overload.gives_up_untaken() {
            return SMALL;
        }
        match capacity {
            BULK if self.lent[1].get() < bulk => BULK,
            BULK | LARGE if self.lent[0].get() < large => LARGE,
            _ => SMALL,
        }
    }

    fn count_lent(&self, capacity: usize, change: impl Fn(usize) -> usize) {
        match capacity {
            LARGE => self.lent[0].update(change),
            BULK => self.lent[1].update(change),
            _ => {}
        }
    }

    /// An empty buffer of [`SMALL`] bytes.
    pub(crate) fn small(self: &Rc<Self>) -> PooledBuffer {
        self.take(SMALL)
    }

    /// An empty buffer of [`LARGE`] bytes.
    pub(crate) fn large(self: &Rc<Self>) -> PooledBuffer {
        self.take(LARGE)
    }

    /// A buffer of the next size, of which [`BULK`] is the last, with what `buffer` holds.
    pub(crate) fn enlarge(self: &Rc<Self>, buffer: &PooledBuffer) -> PooledBuffer {
        let mut larger = self.take(if buffer.is_small() { LARGE } else { BULK });
        larger.append(buffer.filled());
        larger
    }

    /// Reads once from a connection that may be idle for long: `buffer` is there only while it holds something. The
    /// number of bytes read; zero at the end of the stream.
    ///
    /// That a stream is readable is a hint (a fresh one claims it before anything came), so a buffer taken in vain is
    /// given back.
    pub(crate) fn poll_receive<S: Transport>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        stream: &mut S,
        buffer: &mut Option<PooledBuffer>,
    ) -> Poll<io::Result<usize>> {
        self.poll_receive_into(cx, stream, (buffer, SMALL))
    }

    /// As [`Self::poll_receive`], with a new buffer of `capacity`: [`SMALL`], [`LARGE`] or [`BULK`].
    pub(crate) fn poll_receive_into<S: Transport>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        stream: &mut S,
        (buffer, capacity): (&mut Option<PooledBuffer>, usize),
    ) -> Poll<io::Result<usize>> {
        let readable = stream.poll_readable(cx)?;
        let filled = match readable {
            Poll::Ready(()) => buffer.get_or_insert_with(|| self.take(capacity)).poll_fill(cx, stream),
            Poll::Pending => Poll::Pending,
        };
        if filled.is_pending() && buffer.as_ref().is_some_and(|buffer| buffer.is_empty()) {
            *buffer = None;
        }
        filled
    }

    fn take(self: &Rc<Self>, capacity: usize) -> PooledBuffer {
        self.count_lent(capacity, |lent| lent + 1);
        let buffer = self.free_list(capacity).take().unwrap_or_else(|| Buffer::new(capacity));
        PooledBuffer { buffer: Some(buffer), pool: Rc::clone(self) }
    }

    fn give_back(&self, mut buffer: Buffer) {
        (buffer.start, buffer.end) = (0, 0);
        self.count_lent(buffer.bytes.len(), |lent| lent - 1);
        self.free_list(buffer.bytes.len()).give_back(buffer);
    }

    /// Lets go of spares that nobody needs any more.
    pub(crate) fn sweep(&self) {
        [&self.small, &self.large, &self.bulk].into_iter().for_each(FreeList::sweep);
    }

    fn free_list(&self, capacity: usize) -> &FreeList<Buffer> {
        match capacity {
            SMALL => &self.small,
            LARGE => &self.large,
            _ => &self.bulk,
        }
    }
}

/// A buffer that returns to its pool when dropped.
pub(crate) struct PooledBuffer {
    // `None` only while dropping.
    buffer: Option<Buffer>,
    pool: Rc<BufferPool>,
}

impl PooledBuffer {
    /// Whether there is a larger size to move to.
    pub(crate) fn is_small(&self) -> bool {
        self.bytes.len() == SMALL
    }
}

impl Deref for PooledBuffer {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        self.buffer.as_ref().expect("a buffer is present until drop")
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut Buffer {
        self.buffer.as_mut().expect("a buffer is present until drop")
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::Pressure;

    #[test]
    fn consumed_room_is_used_again() {
        let mut buffer = Buffer::new(8);
        assert_eq!(buffer.append(b"abcdefgh"), 8);
        assert!(buffer.is_full());
        buffer.consume(6);
        assert_eq!(buffer.append(b"123456789"), 6);
        assert_eq!(buffer.filled(), b"gh123456");
        buffer.consume(100);
        assert!(buffer.is_empty());
    }

    #[test]
    fn larger_buffers_are_for_so_many_at_a_time() {
        let pool = Rc::new(BufferPool::default());
        let take = || pool.take(pool.affordable(BULK));
        let [large, bulk] = bounds::LENT_BUFFERS;
        let mut taken: Vec<_> = (0..bulk + large).map(|_| take()).collect();
        let sizes: Vec<_> = taken.iter().map(|buffer| buffer.capacity()).collect();
        assert_eq!(sizes, [vec![BULK; bulk], vec![LARGE; large]].concat());
        assert_eq!(
            (pool.affordable(BULK), pool.affordable(LARGE), pool.large().capacity()),
            (SMALL, SMALL, LARGE)
        );
        taken.remove(0);
        assert_eq!((pool.affordable(BULK), pool.affordable(LARGE)), (BULK, SMALL));
        taken.pop();
        assert_eq!(pool.affordable(LARGE), LARGE);
        pool.overload.set_pressure(Pressure::Untaken);
        assert_eq!(pool.affordable(BULK), SMALL);
    }

    #[test]
    fn returned_buffers_come_back_empty() {
        let pool = Rc::new(BufferPool::default());
        let mut first = pool.small();
        first.append(b"secret");
        drop(first);
        let again = pool.small();
        assert!(again.is_empty());
        assert_eq!(pool.small.len(), 0);
        let large = pool.enlarge(&again);
        assert!(!large.is_small());
    }
}
