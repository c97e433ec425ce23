//! One worker: a thread with a runtime, its view of the snapshot, and everything its connections use.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use snapshot::Snapshot;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_local},
};

use crate::{
    accept,
    access_log::{AccessLog, LogBuffer},
    buffer::BufferPool,
    complaints::Complaints,
    dns::{NameSettings, Resolutions},
    handshakes::Handshakes,
    http::Workspaces,
    live::Observed,
    loopback::LoopbackAnswers,
    pipe::Pipes,
    shared::SharedClusters,
    telemetry::{Recorder, Telemetry},
    timer::{TICK, Timers},
    tls::Contexts,
    view::{Surroundings, View},
};

/// Asks where a captured connection was going; see [`crate::original_destination`]. Tests put their own here.
pub type OriginalDestination = fn(&TcpStream) -> io::Result<Option<SocketAddr>>;

/// How connections to the workload come to the inbound listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InboundCapture {
    /// Rewritten by the kernel (REDIRECT): the original destination is asked for, and the application is called from
    /// the address its cluster says.
    Redirect,
    /// Untouched (TPROXY): the local address is the original destination, and the application is called from the
    /// client's own address, on sockets with this mark.
    Transparent {
        /// By which the interception rules know the proxy's connections.
        mark: u32,
        /// Whether an application that is called at loopback can be called from the client's port too.
        loopback: LoopbackAnswers,
    },
}

/// What the workers are started with; the same for all of them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of worker threads, at least 1.
    pub workers: usize,
    /// Connections from clients that one worker serves at a time; more are closed at once and counted.
    pub max_connections: usize,
    /// How connections to the workload are captured.
    pub inbound_capture: InboundCapture,
    /// Whether connections to gateways begin with a PROXY header; those that do not are closed.
    pub gateway_proxy_protocol: bool,
    /// How the original destination of a captured connection is found.
    pub original_destination: OriginalDestination,
    /// How long a connection may be idle: between two requests, or with nothing moving on an opaque one.
    pub idle_timeout: Duration,
    /// How long the head of a request may take to arrive once it has begun.
    pub head_timeout: Duration,
    /// How long a TLS client may take to say what it wants, and again to finish its handshake.
    pub handshake_timeout: Duration,
    /// TLS handshakes that one worker has under way at a time, at least 1; the oldest makes room for one more.
    pub max_handshakes: usize,
    /// How names of endpoints are resolved.
    pub names: NameSettings,
    /// Where the access log goes, if it is on.
    pub access_log: Option<AccessLog>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 8192,
            inbound_capture: InboundCapture::Redirect,
            gateway_proxy_protocol: false,
            original_destination: crate::original_destination,
            idle_timeout: Duration::from_secs(3600),
            head_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(15),
            max_handshakes: 1024,
            names: NameSettings::default(),
            access_log: None,
        }
    }
}

/// What a worker is told.
pub(crate) enum Command {
    /// Stop accepting on these addresses, and confirm.
    Close(Vec<SocketAddr>, oneshot::Sender<()>),
    /// Serve from this snapshot from now on, and confirm.
    Publish {
        version: u64,
        snapshot: Arc<Snapshot>,
        tls: Contexts,
        shared: SharedClusters,
        done: oneshot::Sender<()>,
    },
    /// Names have been resolved to something else.
    Resolved,
    /// Accept on these too.
    Open(Vec<OpenedSocket>),
    /// Let connections end.
    Drain,
    /// Tell the counts.
    Count(oneshot::Sender<Counts>),
    /// Tell what was served.
    Tell(oneshot::Sender<Telemetry>),
    /// Tell what is known of clusters.
    Observe(oneshot::Sender<Observed>),
}

/// A listening socket for one worker.
pub(crate) struct OpenedSocket {
    pub(crate) address: SocketAddr,
    /// Address of the listener in the snapshot.
    pub(crate) listener: SocketAddr,
    pub(crate) socket: TcpListener,
}

/// How much a worker has done; sums over the workers describe the proxy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Connections from clients that are open.
    pub active_connections: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed at once because the worker had as many as it may.
    pub over_limit: u64,
    /// Connections closed because they were going to the proxy itself.
    pub looped: u64,
    /// Connections closed because no filter chain takes them.
    pub no_filter_chain: u64,
    /// Connections closed because their TLS handshake failed or took too long.
    pub failed_handshakes: u64,
    /// Connections closed within their TLS handshake because newer handshakes needed the place.
    pub crowded_out_handshakes: u64,
    /// HTTP requests.
    pub requests: u64,
    /// HTTP requests that the proxy answered itself.
    pub local_replies: u64,
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            active_connections: self.active_connections + other.active_connections,
            connections: self.connections + other.connections,
            over_limit: self.over_limit + other.over_limit,
            looped: self.looped + other.looped,
            no_filter_chain: self.no_filter_chain + other.no_filter_chain,
            failed_handshakes: self.failed_handshakes + other.failed_handshakes,
            crowded_out_handshakes: self.crowded_out_handshakes + other.crowded_out_handshakes,
            requests: self.requests + other.requests,
            local_replies: self.local_replies + other.local_replies,
        }
    }
}

/// What the connections of a worker share.
pub(crate) struct Worker {
    pub(crate) settings: Settings,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) workspaces: Workspaces,
    pub(crate) pipes: Rc<Pipes>,
    pub(crate) timers: Timers,
    pub(crate) handshakes: Handshakes,
    pub(crate) complaints: Complaints,
    pub(crate) log: Option<LogBuffer>,
    pub(crate) recorder: Recorder,
    view: RefCell<Rc<View>>,
    scratch: RefCell<Vec<Vec<u8>>>,
    counts: Cell<Counts>,
    draining: Cell<bool>,
    clock: Cell<Clock>,
    /// Copies of requests under way.
    pub(crate) mirroring: Cell<usize>,
}

/// Formatted and wall-clock time, read once per tick.
#[derive(Clone, Copy)]
struct Clock {
    date: [u8; DATE_LEN],
    wall: SystemTime,
    monotonic: Instant,
}

/// Length of an IMF-fixdate (RFC 9110 §5.6.7).
const DATE_LEN: usize = 29;

impl Clock {
    fn now() -> Self {
        let wall = SystemTime::now();
        let mut date = [0; DATE_LEN];
        let text = httpdate::fmt_http_date(wall);
        date.copy_from_slice(text.as_bytes().get(..DATE_LEN).unwrap_or(&[b'0'; DATE_LEN]));
        Self { date, wall, monotonic: Instant::now() }
    }
}

/// New connections are served while draining, but not waited for.
const DRAINING_PATIENCE: Duration = Duration::from_secs(1);

// Writing vectors kept for later requests, and how large one may have grown to be kept.
const SPARE_SCRATCH: usize = 256;
const MAX_SCRATCH: usize = 64 * 1024;

impl Worker {
    /// A worker without a view or tasks.
    pub(crate) fn new(settings: Settings) -> Self {
        let log = settings.access_log.clone().map(LogBuffer::new);
        Self {
            pipes: Rc::new(Pipes::new(settings.workers)),
            handshakes: Handshakes::new(settings.max_handshakes),
            complaints: Complaints::default(),
            settings,
            buffers: Rc::default(),
            workspaces: Workspaces::default(),
            timers: Timers::default(),
            log,
            recorder: Recorder::default(),
            view: RefCell::new(Rc::new(View::empty())),
            scratch: RefCell::default(),
            counts: Cell::default(),
            draining: Cell::new(false),
            clock: Cell::new(Clock::now()),
            mirroring: Cell::new(0),
        }
    }

    /// What to serve from. Hold it for one request, not longer.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Whether connections should end as soon as they can.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// How long a connection that has not asked anything yet may stay that way.
    pub(crate) fn patience(&self) -> Duration {
        if self.is_draining() { DRAINING_PATIENCE } else { self.settings.idle_timeout }
    }

    /// Changes the counts.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// Connections from clients that are open.
    pub(crate) fn active_connections(&self) -> u64 {
        self.counts.get().active_connections
    }

    /// The current value of a `date` field, at most a tick old.
    pub(crate) fn date(&self) -> [u8; DATE_LEN] {
        self.clock.get().date
    }

    /// Wall-clock time at a moment that was read from the monotonic clock.
    pub(crate) fn wall_time(&self, moment: Instant) -> SystemTime {
        let clock = self.clock.get();
        clock.wall + moment.saturating_duration_since(clock.monotonic)
    }

    /// An empty vector to write into; give it back with [`Self::recycle`].
    pub(crate) fn scratch(&self) -> Vec<u8> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps a vector for a later request.
    pub(crate) fn recycle(&self, mut scratch: Vec<u8>) {
        let mut spares = self.scratch.borrow_mut();
        if spares.len() < SPARE_SCRATCH && scratch.capacity() <= MAX_SCRATCH {
            scratch.clear();
            spares.push(scratch);
        }
    }

    fn tick(&self) {
        self.clock.set(Clock::now());
        self.timers.tick();
        self.complaints.tick();
        if let Some(log) = &self.log {
            log.flush();
        }
    }
}

/// Runs a worker until every sender of `commands` is gone.
pub(crate) async fn run(
    settings: Settings,
    resolved: watch::Receiver<Arc<Resolutions>>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Rc::new(Worker::new(settings));
    let mut accepting = Accepting::default();
    let ticking = spawn_local(keep_time(Rc::clone(&worker)));
    while let Some(command) = commands.recv().await {
        match command {
            // Nobody waits any more for a confirmation when the publisher has given up.
            Command::Close(addresses, done) => {
                accepting.close(addresses).await;
                _ = done.send(());
            }
            Command::Publish { version, snapshot, tls, shared, done } => {
                let resolved = Arc::clone(&resolved.borrow());
                let next = worker.view().next(version, snapshot, Surroundings { tls, shared, resolved });
                *worker.view.borrow_mut() = Rc::new(next);
                _ = done.send(());
            }
            Command::Resolved => {
                let next = worker.view().with_resolved(Arc::clone(&resolved.borrow()));
                *worker.view.borrow_mut() = Rc::new(next);
            }
            Command::Open(sockets) => sockets.into_iter().for_each(|socket| accepting.open(&worker, socket)),
            Command::Drain => {
                worker.draining.set(true);
                spawn_local(end_idle(Rc::clone(&worker)));
            }
            Command::Count(answer) => _ = answer.send(worker.counts.get()),
            Command::Observe(answer) => _ = answer.send(worker.view().observed()),
            Command::Tell(answer) => _ = answer.send(worker.recorder.so_far()),
        }
    }
    ticking.abort();
    worker.tick();
}

/// Lets idle connections end, a little later: a request that is on its way is answered, with `connection: close`.
async fn end_idle(worker: Rc<Worker>) {
    tokio::time::sleep(DRAINING_PATIENCE).await;
    worker.timers.wake_idle();
}

/// The tasks that accept, by the address they accept on.
#[derive(Default)]
struct Accepting(HashMap<SocketAddr, JoinHandle<()>>);

impl Accepting {
    fn open(&mut self, worker: &Rc<Worker>, OpenedSocket { address, listener, socket }: OpenedSocket) {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                let task = spawn_local(accept::accept(Rc::clone(worker), socket, listener));
                self.0.insert(address, task);
            }
            Err(error) => tracing::error!(%address, %error, "cannot watch a listening socket"),
        }
    }

    /// Returns when the sockets are closed, so that their addresses are free.
    async fn close(&mut self, addresses: Vec<SocketAddr>) {
        for task in addresses.iter().filter_map(|address| self.0.remove(address)).collect::<Vec<_>>() {
            task.abort();
            // Ended by the abort, or before: the socket is gone either way.
            _ = task.await;
        }
    }
}

/// Ticks between two looks for idle connections that the peer has closed.
const SWEEP_EVERY: u32 = 20;

async fn keep_time(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in (0..SWEEP_EVERY).cycle() {
        interval.tick().await;
        worker.tick();
        let now = Instant::now();
        worker.view().tick(now);
        if tick == 0 {
            worker.view().sweep(now);
            worker.pipes.sweep();
        }
    }
}
