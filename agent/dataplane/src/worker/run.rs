//! The life of a worker: what it is told, and what it does by the clock.

use std::{collections::HashMap, rc::Rc, sync::Arc, time::Instant};

use snapshot::{Address, Snapshot};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_local},
};

use super::{Counts, Draining, Settings, Worker};
use crate::{
    accept::{self, Accepts},
    alarm,
    breakers::Shares,
    dns::{Questions, Resolutions},
    live::Observed,
    shared::SharedClusters,
    sockets::ListeningSocket,
    telemetry::Ledger,
    timer::TICK,
    tls::Contexts,
    view::ViewContext,
    watched::keep_up,
};

/// What a worker is told.
pub(crate) enum Command {
    /// Stop accepting on these addresses, and confirm.
    Close(Vec<Address>, oneshot::Sender<()>),
    /// Serve from this snapshot from now on, and confirm.
    Publish {
        version: u64,
        snapshot: Arc<Snapshot>,
        tls: Contexts,
        shared: SharedClusters,
        /// Whether connections may be left without what served them.
        drains: bool,
        done: oneshot::Sender<()>,
    },
    /// Names have been resolved to something else.
    Resolved,
    /// Accept on these too.
    Open(Vec<OpenedSocket>),
    /// Let connections end, and from then on wait for none that says nothing, if that is known.
    Drain(Option<Instant>),
    /// Tell the counts.
    Count(oneshot::Sender<Counts>),
    /// Tell what is shared with the other workers.
    Share(oneshot::Sender<Shares>),
    /// Tell what is known of clusters.
    Observe(oneshot::Sender<Observed>),
}

/// A listening socket for one worker.
pub(crate) struct OpenedSocket {
    pub(crate) address: Address,
    /// Address of the listener in the snapshot.
    pub(crate) listener: Address,
    pub(crate) socket: ListeningSocket,
}

/// Runs a worker until every sender of `commands` is gone.
pub(crate) async fn run(
    settings: Settings,
    (resolved, questions): (watch::Receiver<Arc<Resolutions>>, Questions),
    ledger: Arc<Ledger>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Rc::new(Worker::new(settings, questions, ledger));
    let mut accepting = Accepting::default();
    let ticking = start_clock(Rc::clone(&worker));
    while let Some(command) = commands.recv().await {
        match command {
            // Nobody waits any more for a confirmation when the publisher has given up.
            Command::Close(addresses, done) => {
                accepting.close(addresses).await;
                _ = done.send(());
            }
            Command::Publish { version, snapshot, tls, shared, drains, done } => {
                let resolved = Arc::clone(&resolved.borrow());
                let peers = Rc::clone(&worker.recorder.peers);
                let context = ViewContext { tls, shared, resolved, peers, heads: worker.settings.heads };
                let next = worker.view().next(version, snapshot, context);
                worker.turn_to(next, drains);
                _ = done.send(());
            }
            Command::Resolved => {
                // Of several changes that wait the first brings them all.
                if let Some(next) = worker.view().with_resolved(Arc::clone(&resolved.borrow())) {
                    *worker.view.borrow_mut() = Rc::new(next);
                }
            }
            Command::Open(sockets) => sockets.into_iter().for_each(|socket| accepting.open(&worker, socket)),
            Command::Drain(ending) => {
                worker.draining.set(Draining::Serving);
                spawn_local(end_idle(Rc::clone(&worker), ending));
            }
            Command::Count(answer) => _ = answer.send(worker.counts.get()),
            Command::Share(answer) => _ = answer.send(worker.view().shares()),
            Command::Observe(answer) => _ = answer.send(worker.view().observed()),
        }
    }
    ticking.abort();
    worker.tick();
}

/// Lets idle connections end, a little later: a request that is on its way is answered, with `connection: close`. Those
/// that are made from now on end when nobody is waited for any more, as much later: some have only just been made.
async fn end_idle(worker: Rc<Worker>, ending: Option<Instant>) {
    let began = worker.timers.now();
    alarm::sleep(worker.settings.draining_patience).await;
    worker.timers.wake_idle(began);
    if let Some(ending) = ending {
        alarm::sleep_until(ending).await;
        worker.draining.set(Draining::Ending);
        let made_until = worker.timers.now();
        alarm::sleep(worker.settings.draining_patience).await;
        worker.timers.wake_idle(made_until);
    }
}

/// The tasks that accept, by the address they accept on.
#[derive(Default)]
struct Accepting(HashMap<Address, JoinHandle<()>>);

impl Accepting {
    fn open(&mut self, worker: &Rc<Worker>, OpenedSocket { address, listener, socket }: OpenedSocket) {
        match Accepts::new(socket) {
            Ok(socket) => {
                let (worker, socket) = (Rc::clone(worker), Rc::new(socket));
                let accept = move || accept::accept(Rc::clone(&worker), Rc::clone(&socket), listener.clone());
                self.0.insert(address, spawn_local(keep_up("accepting", accept)));
            }
            Err(error) => tracing::error!(%address, %error, "cannot watch a listening socket"),
        }
    }

    /// Returns when the sockets are closed, so that their addresses are free.
    async fn close(&mut self, addresses: Vec<Address>) {
        for task in addresses.iter().filter_map(|address| self.0.remove(address)).collect::<Vec<_>>() {
            task.abort();
            // Ended by the abort, or before: the socket is gone either way.
            _ = task.await;
        }
    }
}

/// Ticks between two looks for idle connections that the peer has closed, and for what nobody needs any more.
const SWEEP_EVERY: u32 = 20;

fn start_clock(worker: Rc<Worker>) -> JoinHandle<()> {
    spawn_local(keep_up("time", move || keep_time(Rc::clone(&worker))))
}

async fn keep_time(worker: Rc<Worker>) {
    for tick in (0..SWEEP_EVERY).cycle() {
        worker.tick();
        let now = Instant::now();
        worker.view().tick(now);
        if tick == 0 {
            worker.sweep();
        }
        alarm::sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::await_holding_refcell_ref, reason = "so that the clock panics")]
    fn time_goes_on_after_a_panic() {
        let worker = Rc::new(Worker::new(Settings::default(), mpsc::channel(1).0, Arc::default()));
        alarm::kept(async {
            // Whoever asks for the view meanwhile panics, as the clock does.
            let injected = worker.view.borrow_mut();
            let clock = start_clock(Rc::clone(&worker));
            let start = Instant::now();
            while worker.timers.now() == 0 {
                assert!(start.elapsed() < Duration::from_secs(20));
                alarm::sleep(Duration::from_millis(10)).await;
            }
            drop(injected);
            let panicked_at = worker.timers.now();
            while worker.timers.now() < panicked_at + 2 {
                assert!(start.elapsed() < Duration::from_secs(20) && !clock.is_finished());
                alarm::sleep(Duration::from_millis(10)).await;
            }
        });
    }
}
