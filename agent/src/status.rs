//! What the control side knows of the running proxy, for the admin and status interfaces.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use snapshot::Snapshot;
use tokio::sync::Notify;

/// Shared between the control loop, which writes, and the interfaces, which read. The data path never touches it.
#[derive(Debug)]
pub(crate) struct Status {
    published: Mutex<Option<Published>>,
    /// Why the proxy is not ready yet.
    waiting: Mutex<Option<String>>,
    refused: Mutex<Vec<RefusedListener>>,
    draining: AtomicBool,
    /// Whether the proxy was told to say that it is not ready.
    unhealthy: AtomicBool,
    started: Instant,
    quit: Notify,
    drain: Notify,
}

/// The snapshot in force and what was noticed about the resources it came from.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) version: u64,
    /// When it was published.
    pub(crate) at: SystemTime,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) findings: Vec<String>,
}

/// A listener that could not be opened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RefusedListener {
    pub(crate) name: String,
    /// Why, and what to do about it.
    pub(crate) reason: String,
}

/// How far the proxy is in its life, in the words of Envoy's `/ready`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    PreInitializing,
    Live,
    Draining,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
        }
    }
}

impl Default for Status {
    fn default() -> Self {
        Self {
            published: Mutex::default(),
            waiting: Mutex::new(Some("the configuration has not been read yet".to_owned())),
            refused: Mutex::default(),
            draining: AtomicBool::default(),
            unhealthy: AtomicBool::default(),
            started: Instant::now(),
            quit: Notify::default(),
            drain: Notify::default(),
        }
    }
}

impl Status {
    pub(crate) fn state(&self) -> State {
        if self.draining.load(Ordering::Relaxed) || self.unhealthy.load(Ordering::Relaxed) {
            return State::Draining;
        }
        if self.waiting().is_none() { State::Live } else { State::PreInitializing }
    }

    /// Why the proxy is not ready yet; `None` from when it is, for good.
    pub(crate) fn waiting(&self) -> Option<String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what keeps the proxy from being ready, `None` if nothing does. Once ready it stays so: what comes later may
    /// be worse, but what was valid is still served. Returns the obstacle when it is a new one.
    pub(crate) fn waits_for(&self, obstacle: Option<String>) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_none() || *waiting == obstacle {
            return None;
        }
        waiting.clone_from(&obstacle);
        obstacle
    }

    /// What is served; `None` before the first publication.
    pub(crate) fn published(&self) -> Option<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The snapshot alone.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.as_ref().map(|published| Arc::clone(&published.snapshot))
    }

    pub(crate) fn publish(&self, published: Published) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = Some(published);
    }

    /// Replaces what was noticed about the resources of the snapshot in force.
    pub(crate) fn set_findings(&self, findings: Vec<String>) {
        if let Some(published) = self.published.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            published.findings = findings;
        }
    }

    /// Listeners that could not be opened.
    pub(crate) fn refused(&self) -> Vec<RefusedListener> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_refused(&self, refused: Vec<RefusedListener>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Says that the proxy is not ready although it serves (Envoy's `/healthcheck/fail`), or takes that back.
    pub(crate) fn fail_health_check(&self, fails: bool) {
        self.unhealthy.store(fails, Ordering::Relaxed);
    }

    /// How long the proxy has run.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Asks the control loop to let connections end, and to serve on until it is told to end.
    pub(crate) fn drain(&self) {
        self.drain.notify_one();
    }

    /// Resolves when [`Self::drain`] was called.
    pub(crate) async fn drain_asked(&self) {
        self.drain.notified().await;
    }

    /// Asks the control loop to end the proxy as SIGTERM would.
    pub(crate) fn quit(&self) {
        self.quit.notify_one();
    }

    /// Resolves when [`Self::quit`] was called.
    pub(crate) async fn quit_asked(&self) {
        self.quit.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_ready_stays_ready_until_draining() {
        let status = Status::default();
        assert_eq!(status.state(), State::PreInitializing);
        let wrong = Some("it is wrong".to_owned());
        assert_eq!(status.waits_for(wrong.clone()), wrong);
        assert_eq!(status.waits_for(wrong.clone()), None, "it is said once");
        assert_eq!((status.state(), status.waiting()), (State::PreInitializing, wrong.clone()));
        assert_eq!(status.waits_for(None), None);
        assert_eq!(status.state(), State::Live);
        assert_eq!(status.waits_for(wrong), None);
        assert_eq!(status.state(), State::Live);
        status.fail_health_check(true);
        assert_eq!(status.state(), State::Draining);
        status.fail_health_check(false);
        assert_eq!(status.state(), State::Live);
        status.start_draining();
        assert_eq!(status.state(), State::Draining);
    }
}
