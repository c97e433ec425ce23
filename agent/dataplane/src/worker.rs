//! One worker: a thread with a runtime, its view of the snapshot, and everything its connections use.

mod clock;
mod counts;
mod run;
mod settings;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use snapshot::{ClientLimits, Direction, Logged};

use self::clock::{Clock, DATE_LEN};
use crate::{
    access_log::LogBuffer,
    bounds,
    buffer::BufferPool,
    dns::{NameCache, Questions},
    free_list::FreeList,
    handshakes::Handshakes,
    http::{BodyBudget, Http1Requests, Http2Requests, PeerMetadata, Workspaces},
    log_limit::LogLimit,
    pipe::Pipes,
    telemetry::{Ledger, Recorder},
    timer::{TICK, Timers, ticks},
    view::View,
};

pub(crate) use self::run::{Command, OpenedSocket, run};
pub use self::{
    counts::Counts,
    settings::{HeadLimits, InboundCapture, OriginalDestination, Settings},
};

/// What the connections of a worker share.
pub(crate) struct Worker {
    pub(crate) settings: Settings,
    pub(crate) buffers: Rc<BufferPool>,
    pub(crate) workspaces: Workspaces<Http1Requests>,
    pub(crate) stream_workspaces: Workspaces<Http2Requests>,
    pub(crate) pipes: Rc<Pipes>,
    pub(crate) timers: Timers,
    pub(crate) handshakes: Handshakes,
    pub(crate) log_limit: LogLimit,
    pub(crate) log: Option<LogBuffer>,
    pub(crate) recorder: Recorder,
    /// Names that requests and connections ask for.
    pub(crate) names: Rc<NameCache>,
    /// What other proxies of the mesh are told of the workload.
    pub(crate) metadata: Option<Rc<PeerMetadata>>,
    view: RefCell<Rc<View>>,
    /// Views of before, and the ticks that they were left at: connections that have no place any more are served from
    /// them what is on its way.
    former: RefCell<Vec<(u64, Rc<View>)>>,
    scratch: FreeList<Vec<u8>>,
    counts: Cell<Counts>,
    draining: Cell<Draining>,
    clock: Cell<Clock>,
    /// Room for bodies that are held.
    pub(crate) bodies: Rc<BodyBudget>,
    /// Copies of requests under way.
    pub(crate) mirroring: Cell<usize>,
}

/// Whether connections are to end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Draining {
    #[default]
    No,
    /// Each after its next answer. New ones are served as ever: whoever makes one has not heard of the drain.
    Serving,
    /// The proxy waits for nothing but the last of them.
    Ending,
}

/// Views of before that are kept; changes come further apart than this many within the time they are kept for.
const FORMER_VIEWS: usize = 16;

impl Worker {
    /// A worker without a view or tasks; what it counts is read in `ledger`.
    pub(crate) fn new(settings: Settings, questions: Questions, ledger: Arc<Ledger>) -> Self {
        let log = settings.access_log.clone().map(LogBuffer::new);
        let buffers = Rc::new(BufferPool::new(settings.overload.clone()));
        Self {
            pipes: Rc::new(Pipes::new(settings.workers)),
            handshakes: Handshakes::new(settings.max_handshakes),
            log_limit: LogLimit::default(),
            metadata: settings.peer_metadata.clone().map(Rc::new),
            bodies: Rc::new(BodyBudget::new(settings.held_bodies)),
            settings,
            buffers,
            workspaces: Workspaces::default(),
            stream_workspaces: Workspaces::default(),
            timers: Timers::default(),
            log,
            recorder: Recorder::new(ledger),
            names: NameCache::new(questions),
            view: RefCell::new(Rc::new(View::empty())),
            former: RefCell::default(),
            scratch: FreeList::new(bounds::SPARE_SCRATCH),
            counts: Cell::default(),
            draining: Cell::default(),
            clock: Cell::new(Clock::now()),
            mirroring: Cell::new(0),
        }
    }

    /// What to serve from. Hold it for one request, not longer.
    pub(crate) fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Serves from another view. `drains` says that connections may have lost their place by it.
    fn turn_to(&self, view: View, drains: bool) {
        let before = self.view.replace(Rc::new(view));
        if !drains {
            return;
        }
        let mut former = self.former.borrow_mut();
        if former.len() == FORMER_VIEWS {
            former.remove(0);
        }
        former.push((self.timers.now(), before));
        drop(former);
        self.timers.nudge_idle();
    }

    /// The latest view of before that a connection has a place in, if it can be served from there; `serves` tells that,
    /// or `None` where there is no place.
    pub(crate) fn former_view(&self, serves: impl Fn(&View) -> Option<bool>) -> Option<Rc<View>> {
        let former = self.former.borrow();
        let latest = former.iter().rev().find_map(|(_, view)| Some((serves(view)?, view)));
        latest.filter(|(serves, _)| *serves).map(|(_, view)| Rc::clone(view))
    }

    /// The access log, where it tells anything of calls of this side.
    pub(crate) fn log_of(&self, direction: Direction) -> Option<&LogBuffer> {
        let view = self.view.borrow();
        self.log.as_ref().filter(|_| *view.snapshot.access_logging().of(direction) != Logged::Nothing)
    }

    /// Whether connections should end as soon as they can.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get() != Draining::No
    }

    /// How long a connection may be idle between two requests. A drain leaves it time for one that is on its way: the
    /// answer before has said that there may be another.
    pub(crate) fn keep_alive(&self, limits: &ClientLimits) -> Duration {
        let limit = limits.idle_timeout.unwrap_or(self.settings.keep_alive);
        if self.is_draining() { self.settings.draining_patience } else { limit }
    }

    /// How long a connection that has not asked anything yet may stay that way.
    pub(crate) fn idle_timeout(&self, limits: &ClientLimits) -> Duration {
        match self.draining.get() {
            Draining::No | Draining::Serving => limits.idle_timeout.unwrap_or(self.settings.keep_alive),
            Draining::Ending => self.settings.draining_patience,
        }
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
        self.clock.get().wall_time(moment)
    }

    /// An empty vector to write into; give it back with [`Self::recycle`].
    pub(crate) fn scratch(&self) -> Vec<u8> {
        self.scratch.take().unwrap_or_default()
    }

    /// Keeps a vector for a later request.
    pub(crate) fn recycle(&self, mut scratch: Vec<u8>) {
        if scratch.capacity() <= bounds::LARGEST_SCRATCH {
            scratch.clear();
            self.scratch.give_back(scratch);
        }
    }

    /// Lets go of what nobody needs any more.
    fn sweep(&self) {
        self.view().sweep();
        self.pipes.sweep();
        self.names.sweep(Instant::now());
        self.buffers.sweep();
        self.workspaces.sweep();
        self.stream_workspaces.sweep();
        self.scratch.sweep();
        self.recorder.sweep();
    }

    fn tick(&self) {
        self.clock.set(Clock::now());
        self.timers.tick();
        self.timers.relieve(&self.settings.overload);
        // A little longer than connections wait for what is on its way.
        let kept = ticks(self.settings.draining_patience + 2 * TICK);
        self.former.borrow_mut().retain(|(left, _)| self.timers.now() <= left.saturating_add(kept));
        self.log_limit.tick();
        if let Some(log) = &self.log {
            log.flush();
        }
    }
}
