//! Being asked to stop, by SIGTERM or SIGINT.
//!
//! Process 1 of a container is not ended by these unless it asks for them, and nobody should end in the middle of
//! writing: whoever waits looks whether to stop, whoever writes goes on to the end.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Listens for requests to stop; when dropped they end the process by themselves again.
pub(crate) struct Stop {
    signals: SignalFd,
    asked: Cell<bool>,
}

fn requests() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

impl Stop {
    /// Listens from now on. Of several threads, only the calling one and those that it starts are no longer ended.
    pub(crate) fn listen() -> Result<Self> {
        let requests = requests();
        requests.thread_block().context("cannot block signals")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&requests, flags).context("cannot listen for signals")?;
        Ok(Self { signals, asked: Cell::new(false) })
    }

    /// What becomes readable when somebody asks us to stop.
    pub(crate) fn descriptor(&self) -> PollFd<'_> {
        PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)
    }

    /// Whether somebody asks, or has asked before.
    pub(crate) fn is_asked(&self) -> Result<bool> {
        let now = self.signals.read_signal().context("cannot read signals")?.is_some();
        self.asked.set(self.asked.get() || now);
        Ok(self.asked.get())
    }

    /// Tries until it is done, up to `most`; says whether it was.
    ///
    /// # Errors
    /// The attempt's own, or somebody has asked us to stop while waiting for `what`.
    pub(crate) fn try_until(
        &self,
        most: Duration,
        what: &str,
        mut attempt: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        const PAUSE: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + most;
        loop {
            if attempt()? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            wait(&mut [self.descriptor()], PAUSE)?;
            if self.is_asked()? {
                bail!("asked to stop while waiting for {what}: nothing was changed");
            }
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        // What was blocked can be unblocked.
        let _ = requests().thread_unblock();
    }
}

/// Waits until one of the descriptors is ready, but no longer than `most`.
pub(crate) fn wait(descriptors: &mut [PollFd<'_>], most: Duration) -> Result<()> {
    let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
    match poll(descriptors, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for signals or changes"),
    }
}
