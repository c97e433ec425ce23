//! An alarm of the kernel.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Rings once each time it is set.
#[derive(Debug)]
pub(crate) struct Timer(AsyncFd<Descriptor>);

impl Timer {
    /// One for the runtime that is entered.
    ///
    /// # Errors
    /// No descriptor is left for it.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Descriptor(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the descriptor is the timer's own, which closes it when it is dropped, and nobody can reach into what
        // is registered to drop it earlier.
        #[expect(unsafe_code, reason = "the runtime has no safe way to watch a descriptor of this kind")]
        let registered = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Has it ring after so much time, and not when it would have.
    ///
    /// # Errors
    /// The kernel refuses, for which there is no known reason.
    pub(crate) fn set(&self, after: Duration) -> io::Result<()> {
        // Nothing at all would mean never.
        let after = TimeSpec::from_duration(after.max(Duration::from_nanos(1)));
        Ok(self.0.get_ref().0.set(Expiration::OneShot(after), TimerSetTimeFlags::empty())?)
    }

    /// Ready when it has rung since it was last asked.
    ///
    /// # Errors
    /// The runtime ends.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        // There is nothing to read that was not known: the kernel tells of each time it rings.
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

#[derive(Debug)]
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
