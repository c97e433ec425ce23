//! The thread that resolves names: those that clusters stand for, again and again as their time to live says, and those
//! that requests ask for, once each time.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    Answer, NameFamilies, NameSettings, Names, Resolutions, Unresolved,
    asked::{Question, unanswered},
    notifier::Notifier,
    schedule::{News, Schedule},
};
use crate::bounds;

/// What the thread takes and gives.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) wanted: watch::Receiver<Names>,
    pub(super) resolved: watch::Sender<Arc<Resolutions>>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) unresolved: Unresolved,
}

/// Starts the thread. It ends when nobody is left to say which names are wanted.
///
/// # Errors
/// The name servers are not known, or there can be no thread.
pub(super) fn start(settings: NameSettings, task: Task, tell: impl Fn() + Send + 'static) -> io::Result<()> {
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
    let mut of_clusters = NamesOfClusters::new(Notifier::new(resolved, tell), unresolved);
    let mut of_requests = NamesOfRequests::default();
    of_clusters.want(&wanted.borrow_and_update());
    loop {
        let wait = of_clusters.ask_for_due(&lookup);
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => of_clusters.want(&wanted.borrow_and_update()),
                Err(_) => return,
            },
            Some(Ok((name, answer))) = of_clusters.lookups.join_next() => of_clusters.take(&name, answer),
            Some(question) = questions.recv(), if of_requests.has_room() => of_requests.ask(question, &lookup),
            Some(Ok((name, answer))) = of_requests.lookups.join_next() => of_requests.take(&name, &answer),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Look-ups under way, each with its name.
type Lookups = JoinSet<(Box<str>, Answer)>;

/// Names that clusters stand for.
struct NamesOfClusters<T> {
    schedule: Schedule,
    notifier: Notifier<T>,
    unresolved: Unresolved,
    lookups: Lookups,
}

impl<T: Fn()> NamesOfClusters<T> {
    fn new(notifier: Notifier<T>, unresolved: Unresolved) -> Self {
        Self { schedule: Schedule::default(), notifier, unresolved, lookups: JoinSet::new() }
    }

    /// These names and no others from now on.
    fn want(&mut self, names: &Names) {
        self.unresolved.retain(names);
        self.schedule.want(names, Instant::now());
    }

    /// Does what is due now, and says how long there will be nothing else to do.
    fn ask_for_due<F>(&mut self, lookup: impl Fn(Box<str>) -> F) -> Duration
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let now = Instant::now();
        self.notifier.tell_if_due(&self.schedule, now);
        let room = bounds::QUESTIONS_AT_ONCE.saturating_sub(self.lookups.len());
        for name in self.schedule.due(now, room) {
            self.lookups.spawn(outcome(name.clone(), lookup(name)));
        }
        let next_due = self.schedule.next_due().into_iter().chain(self.notifier.due()).min();
        next_due.map_or(IDLE, |due| due.saturating_duration_since(now))
    }

    fn take(&mut self, name: &str, answer: Answer) {
        let failed = answer.as_ref().err().cloned();
        let news = self.schedule.answered(name, answer.ok(), Instant::now());
        if self.schedule.wants(name) {
            self.unresolved.note(name, failed.as_deref(), news);
            report(name, failed, news);
        }
        if news.changed {
            self.notifier.changed(Instant::now());
        }
    }
}

/// Names that requests ask for, and who waits for them.
#[derive(Default)]
struct NamesOfRequests {
    waiting: HashMap<Box<str>, Vec<oneshot::Sender<Answer>>, FixedState>,
    lookups: Lookups,
}

impl NamesOfRequests {
    fn has_room(&self) -> bool {
        self.lookups.len() < bounds::QUESTIONS_AT_ONCE
    }

    fn ask<F>(&mut self, Question { name, answer }: Question, lookup: impl Fn(Box<str>) -> F)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        // Nobody waits any more: looking it up would only keep others waiting.
        if answer.is_closed() {
            return;
        }
        // Workers may ask for one name at the same time.
        let askers = self.waiting.entry(name.clone()).or_default();
        askers.push(answer);
        if askers.len() == 1 {
            self.lookups.spawn(outcome(name.clone(), in_time(lookup(name))));
        }
    }

    fn take(&mut self, name: &str, answer: &Answer) {
        for asker in self.waiting.remove(name).unwrap_or_default() {
            // One that has given up needs no answer.
            _ = asker.send(answer.clone());
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

/// Awaits an answer for as long as a question may take.
async fn in_time(answering: impl Future<Output = Answer>) -> Answer {
    tokio::time::timeout(bounds::QUESTION_TIME, answering).await.unwrap_or_else(|_| unanswered())
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
