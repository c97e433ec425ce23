//! Names that clusters stand for (ServiceEntry `resolution: DNS`), resolved on a thread of their own and asked again as
//! their time to live says. What was resolved once stays until there is something newer. The same thread resolves what
//! requests ask for (`asked`).

mod asked;
mod notifier;
mod resolutions;
mod schedule;
#[cfg(test)]
mod tests;
mod unresolved;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use snapshot::{Discovery, DnsResolution, Snapshot};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use self::{
    asked::{Question, patiently},
    notifier::Notifier,
    schedule::{News, Schedule},
};

use crate::bounds;

pub use self::unresolved::UnresolvedName;
pub(crate) use self::{
    asked::{AskedNames, Named, Questions, Unnamed},
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

/// The thread's end.
#[derive(Debug)]
struct Task {
    wanted: watch::Receiver<Names>,
    resolved: watch::Sender<Arc<Resolutions>>,
    questions: mpsc::Receiver<Question>,
    unresolved: Unresolved,
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
    pub(crate) async fn want(&mut self, snapshot: &Snapshot, tell: impl Fn() + Send + 'static) {
        let names = names(snapshot);
        if names.is_empty() && self.task.is_some() && !resolves_on_request(snapshot) {
            return;
        }
        let before = self.wanted.send_replace(names.clone());
        if let Some(task) = self.task.take()
            && let Err(error) = start(self.settings, task, tell)
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

fn start(settings: NameSettings, task: Task, tell: impl Fn() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let resolver = resolver(settings).map_err(io::Error::other)?;
    let lookup = move |name: Box<str>| {
        let resolver = resolver.clone();
        async move { ask(&resolver, &name).await }
    };
    let run = move || runtime.block_on(run(task, lookup, tell));
    std::thread::Builder::new().name("dns".to_owned()).spawn(run).map(drop)
}

fn resolver(settings: NameSettings) -> Result<TokioResolver, String> {
    let builder = match settings.server {
        None => TokioResolver::builder_tokio(),
        Some(server) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            let server = NameServerConfig::new(server.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        }
    };
    let mut builder = builder.map_err(|error| error.to_string())?;
    // A pod without a family could do nothing with its addresses.
    builder.options_mut().ip_strategy = match settings.families {
        NameFamilies::V4First => LookupIpStrategy::Ipv4thenIpv6,
        NameFamilies::V6First => LookupIpStrategy::Ipv6thenIpv4,
        NameFamilies::Both => LookupIpStrategy::Ipv4AndIpv6,
    };
    // Each question is asked when its answer has run out.
    builder.options_mut().cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

async fn ask(resolver: &TokioResolver, name: &str) -> Answer {
    let answer = resolver.lookup_ip(name).await.map_err(|error| match () {
        () if error.is_nx_domain() => "the name servers know no such name".to_owned(),
        () if error.is_no_records_found() => "the name servers know no address of it".to_owned(),
        () => error.to_string(),
    })?;
    let addresses: Vec<IpAddr> = answer.iter().collect();
    if addresses.is_empty() {
        return Err("it has no addresses".to_owned());
    }
    Ok((addresses, answer.valid_until().saturating_duration_since(Instant::now())))
}

async fn run<F: Future<Output = Answer> + Send + 'static>(
    Task { mut wanted, resolved, mut questions, unresolved }: Task,
    lookup: impl Fn(Box<str>) -> F,
    tell: impl Fn(),
) {
    let mut schedule = Schedule::default();
    let mut notifier = Notifier::new(resolved, tell);
    let (mut asking, mut answering) = (JoinSet::new(), JoinSet::new());
    let mut waiting: HashMap<Box<str>, Vec<oneshot::Sender<Answer>>, FixedState> = HashMap::default();
    schedule.want(&wanted.borrow_and_update(), Instant::now());
    loop {
        let now = Instant::now();
        notifier.tell_if_due(&schedule, now);
        for name in schedule.due(now, bounds::QUESTIONS_AT_ONCE.saturating_sub(asking.len())) {
            asking.spawn(outcome(name.clone(), lookup(name)));
        }
        let next_due = schedule.next_due().into_iter().chain(notifier.due()).min();
        let wait = next_due.map_or(IDLE, |due| due.saturating_duration_since(now));
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => {
                    let names = wanted.borrow_and_update();
                    unresolved.retain(&names);
                    schedule.want(&names, Instant::now());
                }
                Err(_) => return,
            },
            Some(Ok((name, answer))) = asking.join_next() => {
                let failed = answer.as_ref().err().cloned();
                let news = schedule.answered(&name, answer.ok(), Instant::now());
                if schedule.wants(&name) {
                    unresolved.note(&name, failed.as_deref(), news);
                    report(&name, failed, news);
                }
                if news.changed {
                    notifier.changed(Instant::now());
                }
            }
            Some(Question { name, answer }) = questions.recv(), if answering.len() < bounds::QUESTIONS_AT_ONCE => {
                // Nobody waits any more: looking it up would only keep others waiting.
                if answer.is_closed() {
                    continue;
                }
                // Workers may ask for one name at the same time.
                let askers = waiting.entry(name.clone()).or_default();
                askers.push(answer);
                if askers.len() == 1 {
                    answering.spawn(outcome(name.clone(), patiently(lookup(name))));
                }
            }
            Some(Ok((name, answer))) = answering.join_next() => {
                for asker in waiting.remove(&name).unwrap_or_default() {
                    // One that has given up needs no answer.
                    _ = asker.send(answer.clone());
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What a look-up comes to. It is a task of its own: one that panics has failed, and whoever waits for it is told.
async fn outcome(
    name: Box<str>,
    looking_up: impl Future<Output = Answer> + Send + 'static,
) -> (Box<str>, Answer) {
    let answer = tokio::spawn(looking_up).await.unwrap_or_else(|error| Err(error.to_string()));
    (name, answer)
}

/// Says once that a name is not resolved, and once that it is again.
fn report(name: &str, failed: Option<String>, news: News) {
    match failed {
        Some(error) if !news.failed_before && news.has_addresses => {
            tracing::warn!(name, error, "cannot resolve; the last good addresses stay");
        }
        Some(error) if !news.failed_before => {
            tracing::warn!(name, error, "cannot resolve; it has no addresses until it is");
        }
        Some(error) => tracing::debug!(name, error, "still cannot resolve"),
        None if news.failed_before => tracing::info!(name, "resolved"),
        None => {}
    }
}

/// Longest sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
