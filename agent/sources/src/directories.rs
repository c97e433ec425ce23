//! Resources from directories of YAML and JSON files, read again when they change.
//!
//! A directory is looked through whole after every change in it, because a mounted ConfigMap changes by one rename
//! (`..data`) that names none of its files. Directories are also looked through at intervals: for a directory that is
//! away there is nothing to watch, and network file systems tell nothing.

mod certificates;
mod scan;
mod watch;

use std::{collections::BTreeSet, io, path::PathBuf, sync::Arc, time::Duration};

use resources::{ReadDefaults, ResourceSet};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{Publisher, Source, Update};
use scan::Scanner;
pub use scan::list;
use watch::{Touched, Watcher};

/// How long a directory must be quiet before it is read: several files written together are one change.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How long a directory that is never quiet is waited for.
const LONGEST_DEBOUNCE: Duration = Duration::from_secs(1);

/// How often directories are looked through without cause.
const RESCAN: Duration = Duration::from_secs(2);

/// A source of resources that reads and watches directories.
///
/// Reads the files named `*.yaml`, `*.yml` and `*.json`, following symbolic links; hidden files and sub-directories
/// are left alone. A file that is deleted takes its resources along; one that cannot be read or parsed, and every
/// file of a directory that cannot be read, keeps what was last valid.
#[derive(Debug)]
pub struct Directories {
    scanner: Scanner,
}

/// Why a directory cannot be a source.
#[derive(Debug, thiserror::Error)]
#[error("invalid configuration directory `{}`: {reason}; expected a readable directory", .directory.display())]
pub struct OpenError {
    /// The directory as given.
    pub directory: PathBuf,
    /// What the system says.
    pub reason: io::Error,
}

impl Directories {
    /// Takes the directories to read; a directory named twice is read once.
    ///
    /// # Errors
    ///
    /// When a directory is missing, is none, or cannot be listed. Later such failures are findings.
    pub fn open(directories: Vec<PathBuf>, defaults: ReadDefaults) -> Result<Self, OpenError> {
        for directory in &directories {
            let listed = std::fs::read_dir(directory);
            listed.map_err(|reason| OpenError { directory: directory.clone(), reason })?;
        }
        Ok(Self { scanner: Scanner::new(directories, defaults) })
    }

    /// Also reads and watches certificates and keys: those that `wanted` names, given the resources.
    #[must_use]
    pub fn with_certificates(
        mut self,
        wanted: impl Fn(&ResourceSet) -> BTreeSet<String> + Send + 'static,
    ) -> Self {
        self.scanner.read_certificates(Box::new(wanted));
        self
    }
}

impl Source for Directories {
    /// Needs a runtime with I/O and time; reads on its blocking threads.
    async fn run(self, publisher: Publisher) {
        let mut scanner = self.scanner;
        // Without inotify (its instances are limited per user) the interval alone must do.
        let mut watcher = Watcher::new().ok();
        loop {
            // Watching begins before reading, so that no change falls between the two.
            if let Some(watcher) = &mut watcher {
                watcher.watch(scanner.directories());
            }
            let Some((scanned, update)) = scan(scanner).await else { return };
            scanner = scanned;
            if let Some(update) = update {
                publisher.send_replace(Some(Arc::new(update)));
            }
            tokio::select! {
                () = publisher.closed() => return,
                touched = changed(watcher.as_ref()) => scanner.expect_change(touched),
            }
        }
    }
}

/// Reads what has changed, away from the runtime's own thread; `None` when the runtime shuts down.
async fn scan(mut scanner: Scanner) -> Option<(Scanner, Option<Update>)> {
    let work = tokio::task::spawn_blocking(move || {
        let update = scanner.scan();
        (scanner, update)
    });
    match work.await {
        Ok(scanned) => Some(scanned),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => None,
        },
    }
}

/// Waits until something may have changed and then for quiet; returns the names of files that were touched.
async fn changed(watcher: Option<&Watcher>) -> Touched {
    let Some(watcher) = watcher else {
        sleep(RESCAN).await;
        return Touched::new();
    };
    let Ok(mut touched) = timeout(RESCAN, watcher.touched()).await else { return Touched::new() };
    let latest = Instant::now() + LONGEST_DEBOUNCE;
    while let Ok(more) = timeout_at(latest.min(Instant::now() + DEBOUNCE), watcher.touched()).await {
        touched.extend(more);
    }
    touched
}
