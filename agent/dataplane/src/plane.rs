//! The handle by which the rest of the agent starts, feeds and drains the workers.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use snapshot::{
    Binding, ClientCertificates, FilterChain, LiveClusters, NetworkFilter, Snapshot, TlsParameters,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{LocalSet, spawn_local},
};

use crate::{
    alarm::Alarm,
    breakers::{self, ClusterState},
    dns::{Resolver, Unresolved, UnresolvedName},
    live,
    shared::SharedState,
    sockets::{BindError, Opened, Openings, Sockets},
    telemetry::{Ledger, Telemetry},
    tls::{Cache, ContextError},
    worker::{self, Command, Counts, OpenedSocket, Settings},
};

/// The running workers.
#[derive(Debug)]
pub struct DataPlane {
    workers: Vec<WorkerThread>,
    sockets: Sockets,
    tls: Cache,
    shared: SharedState,
    resolver: Resolver,
    version: u64,
    /// What was published last.
    served: Option<Arc<Snapshot>>,
}

#[derive(Debug)]
struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    ledger: Arc<Ledger>,
    thread: JoinHandle<()>,
}

/// What a publication came to.
#[derive(Debug)]
pub struct Published {
    /// Number of the snapshot, counted from 1.
    pub version: u64,
    /// Listeners that could not be opened; everything else is served.
    pub refused: Vec<BindError>,
    /// Credentials that cannot serve, so that their handshakes are refused.
    pub refused_credentials: Vec<ContextError>,
}

/// How long connections are given at the end.
#[derive(Clone, Copy, Debug)]
pub struct DrainTime {
    /// For so long new connections are served even while none is open; never longer than `limit`.
    pub minimum: Duration,
    /// After so long the connections that are left are cut.
    pub limit: Duration,
}

impl DataPlane {
    /// Starts the workers; they serve nothing until the first publication.
    ///
    /// # Errors
    /// A thread or its runtime cannot be started.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let resolver = Resolver::new(settings.names);
        let workers = (0..settings.workers)
            .map(|index| start_worker(index, settings.clone(), &resolver))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            workers,
            sockets: Sockets::new(settings.workers, settings.inbound_capture),
            tls: Cache::default(),
            shared: SharedState::default(),
            resolver,
            version: 0,
            served: None,
        })
    }

    /// Opens and closes sockets as `snapshot` asks, gives it to every worker and waits until all serve from it.
    ///
    /// Connections go on: each request is served from the snapshot that is current when its head has arrived.
    pub async fn publish(&mut self, snapshot: Arc<Snapshot>) -> Published {
        self.version += 1;
        let version = self.version;
        let (tls, refused_credentials) = self.tls.contexts(&snapshot);
        let shared = self.shared.update(&snapshot);
        let workers: Vec<_> = self.workers.iter().map(|worker| worker.commands.downgrade()).collect();
        let tell = move || {
            for worker in workers.iter().filter_map(mpsc::WeakUnboundedSender::upgrade) {
                // A worker that is gone needs no addresses.
                _ = worker.send(Command::Resolved);
            }
        };
        self.resolver.want(&snapshot, tell).await;
        let drains = self.served.as_deref().is_some_and(|before| chains(before) != chains(&snapshot));
        self.served = Some(Arc::clone(&snapshot));
        let closed = self.sockets.close(&snapshot);
        self.tell_all(|done| Command::Close(closed.clone(), done)).await;
        self.tell_all(|done| Command::Publish {
            version,
            snapshot: Arc::clone(&snapshot),
            tls: tls.clone(),
            shared: Arc::clone(&shared),
            drains,
            done,
        })
        .await;
        Published { version, refused: self.open_sockets(&snapshot), refused_credentials }
    }

    /// Tries again to open what could not be opened for `snapshot`, which is published already; returns what still
    /// cannot.
    pub fn open_sockets(&mut self, snapshot: &Snapshot) -> Vec<BindError> {
        let Openings { opened, refused } = self.sockets.open(snapshot);
        let mut shares: Vec<Vec<OpenedSocket>> = self.workers.iter().map(|_| Vec::new()).collect();
        for Opened { address, listener, per_worker } in opened {
            for (share, socket) in shares.iter_mut().zip(per_worker) {
                let (address, listener) = (address.clone(), listener.clone());
                share.push(OpenedSocket { address, listener, socket });
            }
        }
        for (worker, share) in self.workers.iter().zip(shares) {
            worker.tell(Command::Open(share));
        }
        refused
    }

    /// Tells every worker something and waits until all have done it.
    async fn tell_all(&self, command: impl Fn(oneshot::Sender<()>) -> Command) {
        let mut confirmations = Vec::new();
        for worker in &self.workers {
            let (done, confirmed) = oneshot::channel();
            worker.tell(command(done));
            confirmations.push(confirmed);
        }
        for confirmed in confirmations {
            // A worker that is gone cannot confirm; its thread has reported why.
            _ = confirmed.await;
        }
    }

    /// Sums of the workers' counts.
    pub async fn counts(&self) -> Counts {
        self.telemetry().counts().await
    }

    /// A way to ask the workers what they have served, from any thread.
    pub fn telemetry(&self) -> TelemetryReader {
        TelemetryReader {
            workers: self.workers.iter().map(|worker| worker.commands.downgrade()).collect(),
            ledgers: self.workers.iter().map(|worker| Arc::clone(&worker.ledger)).collect(),
            unresolved: self.resolver.unresolved(),
        }
    }

    /// Lets connections end as [`Self::drain`] does, for as long as the proxy runs.
    pub fn start_draining(&self) {
        self.workers.iter().for_each(|worker| worker.tell(Command::Drain(None)));
    }

    /// Lets connections end: idle ones are closed, answers say `connection: close`. What is returned is ready when the
    /// minimum is over and none is left, or at the limit; true when none is left. New connections are still served
    /// meanwhile, and snapshots may be published.
    #[expect(clippy::disallowed_methods, reason = "who drains is on no worker")]
    pub fn drain(&self, DrainTime { minimum, limit }: DrainTime) -> impl Future<Output = bool> + use<> {
        let start = Instant::now();
        let ending = start + minimum.min(limit);
        self.workers.iter().for_each(|worker| worker.tell(Command::Drain(Some(ending))));
        let telemetry = self.telemetry();
        async move {
            tokio::time::sleep_until(ending.into()).await;
            while telemetry.counts().await.active_connections > 0 {
                if start.elapsed() >= limit {
                    return false;
                }
                tokio::time::sleep(DRAIN_CHECK).await;
            }
            true
        }
    }

    /// Ends the workers and with them whatever connections are left.
    pub fn stop(self) {
        for WorkerThread { commands, thread, .. } in self.workers {
            drop(commands);
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

/// Asks the workers what they have served. It does not keep them running.
#[derive(Clone, Debug)]
pub struct TelemetryReader {
    workers: Vec<mpsc::WeakUnboundedSender<Command>>,
    ledgers: Vec<Arc<Ledger>>,
    unresolved: Unresolved,
}

impl TelemetryReader {
    /// What all workers have served so far. It is read beside them: none stops for it.
    pub fn read(&self) -> Telemetry {
        Ledger::read(&self.ledgers, Instant::now())
    }

    /// Names of endpoints that could not be resolved when they were asked for last.
    pub fn unresolved(&self) -> Vec<UnresolvedName> {
        self.unresolved.all()
    }

    /// Sums of the workers' counts.
    pub async fn counts(&self) -> Counts {
        self.ask(Command::Count).await.into_iter().fold(Counts::default(), |sum, counts| sum + counts)
    }

    /// What is known of clusters beyond the snapshot.
    pub async fn clusters(&self) -> LiveClusters {
        live::clusters(self.ask(Command::Observe).await)
    }

    /// Of the clusters that have limits or eject outliers, what came of it; sorted by name.
    pub async fn cluster_states(&self) -> Vec<ClusterState> {
        self.ask(Command::Share).await.first().map(breakers::states).unwrap_or_default()
    }

    /// The answers of all workers that still run.
    async fn ask<T>(&self, question: fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let ask = |worker: &mpsc::WeakUnboundedSender<Command>| {
            let (answer, told) = oneshot::channel();
            worker.upgrade()?.send(question(answer)).ok()?;
            Some(told)
        };
        let mut answers = Vec::new();
        for told in self.workers.iter().filter_map(ask).collect::<Vec<_>>() {
            answers.extend(told.await);
        }
        answers
    }
}

/// What a chain asks for in handshakes, if it ends TLS.
type Asked<'s> = Option<(&'s ClientCertificates, &'s TlsParameters)>;

/// Listeners and chains as far as connections may be served by them: where nothing of this changes, none ends.
fn chains(snapshot: &Snapshot) -> HashMap<(&Binding, &str, bool), Asked<'_>> {
    let asked = |chain: &FilterChain| {
        let context = snapshot.tls_context(chain.tls?);
        Some((&context.clients, &context.parameters))
    };
    let of_listeners = snapshot.listeners().iter().flat_map(|listener| {
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        chains.map(|chain| (&listener.binding, chain))
    });
    let served = of_listeners.map(|(binding, chain)| {
        let is_http = matches!(chain.filter, NetworkFilter::Http(_));
        ((binding, chain.name.as_str(), is_http), asked(chain))
    });
    served.collect()
}

const DRAIN_CHECK: Duration = Duration::from_millis(50);

impl WorkerThread {
    fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!(worker = ?self.thread.thread().name(), "a worker is gone");
        }
    }
}

fn start_worker(index: usize, settings: Settings, resolver: &Resolver) -> io::Result<WorkerThread> {
    let resolver = (resolver.resolved(), resolver.questions());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (commands, received) = mpsc::unbounded_channel();
    let ledger = Arc::<Ledger>::default();
    let counted = Arc::clone(&ledger);
    let alarm = {
        let _entered = runtime.enter();
        Alarm::new()?
    };
    let run = move || {
        let ended = LocalSet::new().block_on(&runtime, async {
            spawn_local(alarm.keep());
            // In a task of its own: what is awaited here is looked at whenever anything happens.
            spawn_local(worker::run(settings, resolver, counted, received)).await
        });
        ended.expect("nobody aborts it");
    };
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
    Ok(WorkerThread { commands, ledger, thread })
}
