//! Room for a request under way, lent to a connection or stream only while it has one.
//!
//! Serving a request takes kilobytes of state, of which an idle connection needs nothing, and which to make, move and
//! free for every request of HTTP/2 would cost more than serving it. A workspace is a future that never ends: it serves
//! one request after the other of whatever connections it is lent to, always in the same memory, so that requests
//! allocate nothing for it either. It is polled by the task of the connection or stream that has it.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use crate::{bounds, free_list::FreeList};

/// What is done in workspaces of one kind.
pub(crate) trait Work: 'static {
    /// What comes in.
    type Job;
    /// What comes out.
    type Done;

    fn work(job: Self::Job) -> impl Future<Output = Self::Done>;
}

/// The workspaces of one worker that nobody uses.
pub(crate) struct Workspaces<W: Work>(FreeList<Workspace<W>>);

impl<W: Work> Default for Workspaces<W> {
    fn default() -> Self {
        Self(FreeList::new(bounds::SPARE_WORKSPACES))
    }
}

/// Room for one request.
pub(crate) struct Workspace<W: Work> {
    desk: Rc<Desk<W>>,
    working: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// What goes into a workspace, and what comes out.
struct Desk<W: Work> {
    job: Cell<Option<W::Job>>,
    done: Cell<Option<W::Done>>,
}

impl<W: Work> Workspaces<W> {
    /// A workspace that has `job` to do.
    pub(super) fn lend(&self, job: W::Job) -> Workspace<W> {
        let workspace = self.0.take().unwrap_or_else(Workspace::new);
        workspace.desk.job.set(Some(job));
        workspace
    }

    /// Has the job done that a workspace was lent for.
    pub(super) async fn work(&self, mut lent: Workspace<W>) -> W::Done {
        let done = poll_fn(|cx| {
            let Poll::Pending = lent.working.as_mut().poll(cx);
            lent.desk.done.take().map_or(Poll::Pending, Poll::Ready)
        });
        let done = done.await;
        // Not reached when the request panicked or its connection was given up: what is in there then goes with it.
        self.0.give_back(lent);
        done
    }

    /// Lets go of those that nobody needs any more.
    pub(crate) fn sweep(&self) {
        self.0.sweep();
    }
}

impl<W: Work> Workspace<W> {
    fn new() -> Self {
        let desk = Rc::new(Desk { job: Cell::new(None), done: Cell::new(None) });
        let working = Box::pin(work_for_ever(Rc::clone(&desk)));
        Self { desk, working }
    }
}

async fn work_for_ever<W: Work>(desk: Rc<Desk<W>>) -> Infallible {
    loop {
        let job = poll_fn(|_| desk.job.take().map_or(Poll::Pending, Poll::Ready)).await;
        desk.done.set(Some(W::work(job).await));
    }
}
