//! Who may be sent something long at a time: each holds what is not sent yet, or the numbers that are not written.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds;

/// The places of those who are sent something long. Others wait for their turn.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// A place, to be left by dropping it.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Places {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(bounds::METRICS_READERS)), waiting: Arc::default() }
    }
}

impl Places {
    /// Waits for a place.
    pub(crate) async fn take(&self) -> Place {
        let _waiting = Waiting::begin(&self.waiting);
        // It is never closed; without a permit there would only be no limit.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        Place { _permit: permit, waiting: Arc::clone(&self.waiting) }
    }
}

impl Place {
    /// Whether somebody waits for one.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}

/// One of those who wait, until it has a place or gives up.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn begin(waiting: &'w AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
