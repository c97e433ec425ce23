//! The handle by which the rest of the agent starts, feeds and drains the workers.

use std::{
    io,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use snapshot::Snapshot;
use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use crate::{
    sockets::{BindError, Sockets},
    worker::{self, Command, Counts, OpenedSocket, Settings, SocketChange},
};

/// The running workers.
#[derive(Debug)]
pub struct DataPlane {
    workers: Vec<WorkerThread>,
    sockets: Sockets,
    version: u64,
}

#[derive(Debug)]
struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// What a publication came to.
#[derive(Debug)]
pub struct Published {
    /// Number of the snapshot, counted from 1.
    pub version: u64,
    /// Listeners that could not be opened; everything else is served.
    pub refused: Vec<BindError>,
}

impl DataPlane {
    /// Starts the workers; they serve nothing until the first publication.
    ///
    /// # Errors
    /// A thread or its runtime cannot be started.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let workers = (0..settings.workers)
            .map(|index| start_worker(index, settings.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self { workers, sockets: Sockets::new(settings.workers), version: 0 })
    }

    /// Opens and closes sockets as `snapshot` asks, gives it to every worker and waits until all serve from it.
    ///
    /// Connections go on: each request is served from the snapshot that is current when its head has arrived.
    pub async fn publish(&mut self, snapshot: Arc<Snapshot>) -> Published {
        self.version += 1;
        let change = self.sockets.change(&snapshot);
        let mut shares: Vec<_> = self.workers.iter().map(|_| SocketChange::default()).collect();
        for share in &mut shares {
            share.closed.clone_from(&change.closed);
        }
        for opened in change.opened {
            for (share, socket) in shares.iter_mut().zip(opened.per_worker) {
                share.opened.push(OpenedSocket {
                    address: opened.address,
                    listener: opened.listener,
                    socket,
                });
            }
        }
        let mut confirmations = Vec::new();
        for (worker, change) in self.workers.iter().zip(shares) {
            let (done, confirmed) = oneshot::channel();
            let snapshot = Arc::clone(&snapshot);
            worker.tell(Command::Publish { version: self.version, snapshot, change, done });
            confirmations.push(confirmed);
        }
        for confirmed in confirmations {
            // A worker that is gone cannot confirm; its thread has reported why.
            _ = confirmed.await;
        }
        Published { version: self.version, refused: change.refused }
    }

    /// Sums of the workers' counts.
    pub async fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for worker in &self.workers {
            let (answer, counts) = oneshot::channel();
            worker.tell(Command::Count(answer));
            sum = sum + counts.await.unwrap_or_default();
        }
        sum
    }

    /// Lets connections end: idle ones are closed, answers say `connection: close`. Returns when none is left or
    /// after `limit`, whichever comes first; true when none is left. New connections are still served meanwhile.
    pub async fn drain(&self, limit: Duration) -> bool {
        for worker in &self.workers {
            worker.tell(Command::Drain);
        }
        let end = Instant::now() + limit;
        while self.counts().await.active_connections > 0 {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(DRAIN_CHECK).await;
        }
        true
    }

    /// Ends the workers and with them whatever connections are left.
    pub fn stop(self) {
        for WorkerThread { commands, thread } in self.workers {
            drop(commands);
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

const DRAIN_CHECK: Duration = Duration::from_millis(50);

impl WorkerThread {
    fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!(worker = ?self.thread.thread().name(), "a worker is gone");
        }
    }
}

fn start_worker(index: usize, settings: Settings) -> io::Result<WorkerThread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (commands, received) = mpsc::unbounded_channel();
    let run = move || LocalSet::new().block_on(&runtime, worker::run(settings, received));
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
    Ok(WorkerThread { commands, thread })
}
