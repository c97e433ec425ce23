//! Pipes through which the kernel moves the bytes of one socket to another without showing them to us.
//!
//! A large pipe costs two descriptors and counts against what an unprivileged user may hold in pipes on the whole
//! machine (`fs.pipe-user-pages-soft`), so a worker has few and lends them for as long as bytes are under way.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    task::{Context, Poll, ready},
};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use tokio::{io::Interest, net::TcpStream};

use crate::bounds;

/// A smaller pipe is no better than copying through a [`crate::buffer::BULK`] buffer.
const WORTHWHILE: usize = 256 * 1024;

/// The pipes of one worker.
pub(crate) struct Pipes {
    /// How many there may be.
    limit: usize,
    spare: RefCell<Vec<Pipe>>,
    /// Pipes that exist.
    open: Cell<usize>,
    /// Whether one was asked for since the last sweep.
    asked: Cell<bool>,
    /// Whether the kernel refused a large one since the last sweep; asking again for each read would cost more than
    /// copying.
    refused: Cell<bool>,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    /// This worker's share when there are `workers`; nothing is opened yet.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            limit: (bounds::PIPES / workers.max(1)).max(1),
            spare: RefCell::default(),
            open: Cell::new(0),
            asked: Cell::new(false),
            refused: Cell::new(false),
        }
    }

    /// An empty pipe, or `None` when all are lent or the kernel gives no large one.
    pub(crate) fn lend(self: &Rc<Self>) -> Option<LentPipe> {
        self.asked.set(true);
        let spare = self.spare.borrow_mut().pop();
        let pipe = match spare {
            Some(pipe) => pipe,
            None => self.open()?,
        };
        Some(LentPipe { pipe: Some(pipe), held: 0, pipes: Rc::clone(self) })
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn open_now(&self) -> usize {
        self.open.get()
    }

    fn open(&self) -> Option<Pipe> {
        if self.open.get() == self.limit || self.refused.get() {
            return None;
        }
        match Pipe::open() {
            Ok(pipe) => {
                self.open.set(self.open.get() + 1);
                Some(pipe)
            }
            Err(error) => {
                tracing::debug!(%error, "no pipe for bulk transfer; copying");
                self.refused.set(true);
                None
            }
        }
    }

    /// Closes what nobody has used since the last sweep, so that an idle worker holds none.
    pub(crate) fn sweep(&self) {
        self.refused.set(false);
        if !self.asked.replace(false) {
            let closed = std::mem::take(&mut *self.spare.borrow_mut()).len();
            self.open.set(self.open.get() - closed);
        }
    }
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        let wanted = i32::try_from(bounds::PIPE).map_err(io::Error::other)?;
        // Refused to a user who holds too many pages; what it has then decides.
        let given = fcntl(&write, FcntlArg::F_SETPIPE_SZ(wanted))
            .or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ))?;
        if usize::try_from(given).is_ok_and(|given| given >= WORTHWHILE) {
            Ok(Self { read, write })
        } else {
            Err(io::Error::other(format!("a pipe holds {given} bytes only (fs.pipe-user-pages-soft)")))
        }
    }
}

/// A pipe that returns to its pool when dropped empty; one that holds bytes is closed.
pub(crate) struct LentPipe {
    // `None` only while dropping.
    pipe: Option<Pipe>,
    /// Bytes in it.
    held: usize,
    pipes: Rc<Pipes>,
}

impl LentPipe {
    fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().expect("a pipe is present until drop")
    }

    /// Takes what the socket has received: the number of bytes, zero at the end of the stream. The pipe must be empty.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || transfer(from, &self.pipe().write, bounds::PIPE));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => {
                    self.held += moved.as_ref().unwrap_or(&0);
                    return Poll::Ready(moved);
                }
            }
        }
    }

    /// Gives everything to the socket.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while self.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || transfer(&self.pipe().read, to, self.held)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.held -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn transfer(from: &impl AsFd, to: &impl AsFd, limit: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from.as_fd(), None, to.as_fd(), None, limit, flags)?)
}

impl Drop for LentPipe {
    fn drop(&mut self) {
        match self.pipe.take() {
            Some(pipe) if self.held == 0 => self.pipes.spare.borrow_mut().push(pipe),
            _ => self.pipes.open.set(self.pipes.open.get() - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_few_and_come_back_only_when_empty() {
        let pipes = Rc::new(Pipes::new(2));
        let mut lent: Vec<_> = std::iter::from_fn(|| pipes.lend()).collect();
        assert_eq!(lent.len(), bounds::PIPES / 2);
        lent[0].held = 1;
        drop(lent);
        assert_eq!(
            (pipes.open.get(), pipes.spare.borrow().len()),
            (bounds::PIPES / 2 - 1, bounds::PIPES / 2 - 1)
        );
        assert!(pipes.lend().is_some());
    }

    #[test]
    fn pipes_nobody_uses_are_closed() {
        let pipes = Rc::new(Pipes::new(64));
        let lent = pipes.lend();
        pipes.sweep();
        drop(lent);
        pipes.sweep();
        assert_eq!((pipes.open.get(), pipes.spare.borrow().len()), (0, 0));
    }
}
