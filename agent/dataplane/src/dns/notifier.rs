//! When the workers learn of new addresses: answers that come together are one change.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Resolutions, schedule::Schedule};

/// How long answers are gathered after the first: each change is work for every worker.
const GATHERING: Duration = Duration::from_millis(20);

/// Hands results to those who read them, and tells them to look.
pub(super) struct Notifier<T> {
    resolved: watch::Sender<Arc<Resolutions>>,
    tell: T,
    due: Option<Instant>,
}

impl<T: Fn()> Notifier<T> {
    pub(super) fn new(resolved: watch::Sender<Arc<Resolutions>>, tell: T) -> Self {
        Self { resolved, tell, due: None }
    }

    /// There is something new, and more may come.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due.get_or_insert(now + GATHERING);
    }

    /// When something is to be handed out.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Hands out what is known if it is time.
    pub(super) fn tell_if_due(&mut self, schedule: &Schedule, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.resolved.send_replace(Arc::new(Resolutions(schedule.resolutions())));
            (self.tell)();
        }
    }
}
