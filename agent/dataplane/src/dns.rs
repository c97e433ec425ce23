//! Names that clusters stand for (ServiceEntry `resolution: DNS`), resolved on a thread of their own and asked again as
//! their time to live says. What was resolved once stays until there is something newer. The same thread resolves what
//! requests ask for (`asked`).

mod asked;
mod notifier;
mod resolutions;
mod schedule;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests have a runtime with timers")]
mod tests;
#[expect(clippy::disallowed_methods, reason = "this thread is no worker and has timers")]
mod thread;
mod unresolved;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use snapshot::{Discovery, DnsResolution, Snapshot};
use tokio::sync::{mpsc, watch};

use self::thread::Task;
use crate::bounds;

pub use self::unresolved::UnresolvedName;
pub(crate) use self::{
    asked::{NameCache, NotResolved, Questions, ResolvedName},
    resolutions::Resolutions,
    unresolved::Unresolved,
};

/// Names to be resolved, and what for. One that several clusters use is for the more exacting of them.
pub(crate) type Names = BTreeMap<Box<str>, DnsResolution>;

/// How names are resolved.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameSettings {
    /// Asked instead of those of `/etc/resolv.conf`.
    pub server: Option<SocketAddr>,
    /// Whose addresses are asked for.
    pub families: NameFamilies,
}

/// Which addresses of a name are asked for: those that the workload has a way to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum NameFamilies {
    /// IPv4, and IPv6 where there is none.
    #[default]
    V4First,
    /// IPv6, and IPv4 where there is none.
    V6First,
    /// Both.
    Both,
}

impl NameFamilies {
    /// For a workload with these addresses.
    pub fn of(own: &[IpAddr]) -> Self {
        match (own.iter().any(IpAddr::is_ipv4), own.iter().any(IpAddr::is_ipv6)) {
            (true, true) => Self::Both,
            (false, true) => Self::V6First,
            _ => Self::V4First,
        }
    }
}

/// A name's addresses and how long they may be used.
type Answer = Result<(Vec<IpAddr>, Duration), String>;

/// The names that `snapshot` wants resolved.
fn names(snapshot: &Snapshot) -> Names {
    let mut names = Names::new();
    for cluster in snapshot.clusters() {
        let Discovery::Dns(dns) = &cluster.discovery else { continue };
        for name in dns.names.iter().filter(|name| name.host.parse::<IpAddr>().is_err()) {
            let purpose = names.entry(name.host.as_str().into()).or_insert(dns.resolution);
            // Who uses one address has to know which.
            if dns.resolution == DnsResolution::Logical {
                *purpose = DnsResolution::Logical;
            }
        }
    }
    names
}

/// Whether clusters of `snapshot` have the name that each request asks for resolved.
fn resolves_on_request(snapshot: &Snapshot) -> bool {
    snapshot.clusters().iter().any(|cluster| matches!(cluster.discovery, Discovery::DynamicDns(_)))
}

/// The publisher's end: says which names are wanted. The thread starts when it is first needed and ends with this.
#[derive(Debug)]
pub(crate) struct Resolver {
    settings: NameSettings,
    wanted: watch::Sender<Names>,
    resolved: watch::Receiver<Arc<Resolutions>>,
    questions: Questions,
    unresolved: Unresolved,
    /// Until the thread has it.
    task: Option<Task>,
}

/// How long a publication waits for names that the one before did not have, so that their clusters have endpoints when
/// they are first used. It waits for none twice: while name servers are silent other changes must not come late.
const WARMING: Duration = Duration::from_secs(5);

impl Resolver {
    pub(crate) fn new(settings: NameSettings) -> Self {
        let (sender, resolved) = watch::channel(Arc::default());
        let (wanted, is_wanted) = watch::channel(Names::default());
        let (questions, asked) = mpsc::channel(bounds::WAITING_QUESTIONS);
        let unresolved = Unresolved::default();
        let told = unresolved.clone();
        let task = Task { wanted: is_wanted, resolved: sender, questions: asked, unresolved: told };
        Self { settings, wanted, resolved, questions, unresolved, task: Some(task) }
    }

    /// Where names that requests ask for can be asked for.
    pub(crate) fn questions(&self) -> Questions {
        self.questions.clone()
    }

    /// Where the names can be read that are asked for in vain.
    pub(crate) fn unresolved(&self) -> Unresolved {
        self.unresolved.clone()
    }

    /// Where results can be read.
    pub(crate) fn resolved(&self) -> watch::Receiver<Arc<Resolutions>> {
        self.resolved.clone()
    }

    /// Asks for the names of `snapshot` from now on, and waits a little for new ones. `tell` is called, from the thread,
    /// a moment after the results have changed.
    #[expect(clippy::disallowed_methods, reason = "who publishes is on no worker")]
    pub(crate) async fn want(&mut self, snapshot: &Snapshot, tell: impl Fn() + Send + 'static) {
        let names = names(snapshot);
        if names.is_empty() && self.task.is_some() && !resolves_on_request(snapshot) {
            return;
        }
        let before = self.wanted.send_replace(names.clone());
        if let Some(task) = self.task.take()
            && let Err(error) = thread::start(self.settings, task, tell)
        {
            tracing::error!(%error, "names cannot be resolved; is there an /etc/resolv.conf?");
        }
        let new = names.into_iter().filter(|(name, _)| !before.contains_key(name)).collect();
        let known = self.resolved.wait_for(|resolved| resolved.cover(&new));
        if tokio::time::timeout(WARMING, known).await.is_err() {
            tracing::warn!("some names are not resolved yet; serving without their addresses");
        }
    }
}
