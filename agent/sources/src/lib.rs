//! Where resources come from: watched directories.
//!
//! A [`Source`] publishes all resources in force as one [`Update`], first when it has read them and again after every
//! change. What cannot be read keeps its last valid version, so a consumer never sees less than what was once good
//! and has not been taken away.
#![forbid(unsafe_code)]

pub mod bounds;
mod directories;

use std::{future::Future, sync::Arc};

use resources::{CertificateFiles, Finding, ResourceSet};
use tokio::sync::watch;

pub use directories::{Directories, OpenError, list};

/// All resources in force at one moment.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The resources.
    pub set: ResourceSet,
    /// The files that the resources name, when the source was asked to read them.
    pub certificates: CertificateFiles,
    /// Everything wrong or surprising in them now, not only what is new.
    pub findings: Vec<Finding>,
}

/// The consumer's end: the latest update, `None` until the first.
pub type Updates = watch::Receiver<Option<Arc<Update>>>;

/// The source's end.
pub type Publisher = watch::Sender<Option<Arc<Update>>>;

/// Makes the channel between a source and its consumer. It holds the latest update only: a slow consumer skips those
/// in between.
pub fn channel() -> (Publisher, Updates) {
    watch::channel(None)
}

/// Something that knows resources and notices when they change.
pub trait Source {
    /// Publishes updates until nobody holds the other end any more.
    fn run(self, publisher: Publisher) -> impl Future<Output = ()> + Send;
}
