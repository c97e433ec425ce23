//! `watch`: looks whenever the kernel tells of a change, and now and then in any case; repairs or reports.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use rules::settings::{Options, Settings};

use super::{Plan, Survey, apply};
use crate::failure::Failure;
use crate::stop::Stop;
use crate::watch::metrics::{self, Metrics};
use crate::watch::{self, ChangeWatch, Reason};
use crate::{facts, namespace, privileges};

/// Keeps the kernel's rules as wanted until asked to stop. With `--reconcile=false` differences are only reported.
pub(super) fn watch(
    mut settings: Settings,
    options: &Options,
    how: watch::Settings,
) -> Result<String, Failure> {
    facts::resolve_owners(&mut settings, options)?;
    privileges::require_net_admin()?;
    let metrics = Arc::new(Metrics::default());
    // Before any other thread starts: each would have to block the signals itself.
    let changes = ChangeWatch::open()?;
    if let Some(address) = how.metrics {
        metrics::serve(address, Arc::clone(&metrics))?;
    }
    privileges::keep_needed(false);
    let watcher = Watcher { settings, options, metrics };
    tracing::info!(repairs = options.reconcile, "watching the rules");
    watcher.run(&changes, how.interval)?;
    Ok(String::new())
}

struct Watcher<'a> {
    settings: Settings,
    options: &'a Options,
    metrics: Arc<Metrics>,
}

/// Between two looks at least this much time passes, and ever more while somebody keeps changing the rules back.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

impl Watcher<'_> {
    fn run(&self, changes: &ChangeWatch, interval: Duration) -> Result<()> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            pause = if self.look(changes.stop()) { SHORTEST_PAUSE } else { (pause * 2).min(interval) };
            let stop = changes.pause(pause)? == Reason::Stop || changes.wait(interval)? == Reason::Stop;
            if stop {
                tracing::info!("asked to stop: the rules stay as they are");
                return Ok(());
            }
        }
    }

    /// Looks once, and repairs if need be. Says whether there was nothing to do.
    fn look(&self, stop: &Stop) -> bool {
        match self.survey_and_repair(stop) {
            Ok(quiet) => quiet,
            Err(error) => {
                self.metrics.in_sync.store(false, Ordering::Relaxed);
                Metrics::count(&self.metrics.failures);
                tracing::error!("the rules could not be looked at or put right: {error:#}");
                false
            }
        }
    }

    fn survey_and_repair(&self, stop: &Stop) -> Result<bool> {
        let _lock = namespace::lock(self.options.lock_wait, stop)?;
        let survey = Survey::make(Plan::make(self.settings.clone(), self.options)?, self.options)?;
        let in_sync = survey.is_in_sync();
        self.metrics.in_sync.store(in_sync, Ordering::Relaxed);
        if in_sync {
            return Ok(true);
        }
        Metrics::count(&self.metrics.drifts);
        tracing::warn!("{}", survey.explanation());
        if !self.options.reconcile {
            return Ok(false);
        }
        apply::apply(survey.plan, self.options, stop)?;
        Metrics::count(&self.metrics.repairs);
        self.metrics.in_sync.store(true, Ordering::Relaxed);
        tracing::info!("the rules were put right");
        Ok(false)
    }
}
