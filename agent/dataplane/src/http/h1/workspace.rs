//! Room for a request under way, lent to a connection only while it has one.
//!
//! Serving a request takes kilobytes of state, of which an idle connection needs nothing. A workspace is a future that
//! never ends: it serves one request after the other of whatever connections it is lent to, always in the same memory,
//! so that requests allocate nothing either. It is polled by the task of the connection that has it.

use std::{
    cell::Cell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use super::{Next, Session};
use crate::{bounds, http::downstream::Downstream, spares::Spares};

/// The workspaces of one worker that nobody uses.
pub(crate) struct Workspaces(Spares<Workspace>);

impl Default for Workspaces {
    fn default() -> Self {
        Self(Spares::new(bounds::SPARE_WORKSPACES))
    }
}

struct Workspace {
    desk: Rc<Cell<Desk>>,
    serving: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// What goes into a workspace, and what comes out.
#[derive(Default)]
enum Desk {
    #[default]
    Empty,
    Arrived(Box<Downstream>),
    Served(Box<Downstream>, Next),
}

impl Workspaces {
    /// Serves a request whose first bytes have arrived; tells what is to follow it.
    pub(super) async fn serve(&self, downstream: Box<Downstream>) -> (Box<Downstream>, Next) {
        let mut workspace = self.0.take().unwrap_or_else(Workspace::new);
        workspace.desk.set(Desk::Arrived(downstream));
        let served = poll_fn(|cx| {
            let Poll::Pending = workspace.serving.as_mut().poll(cx);
            match workspace.desk.take() {
                Desk::Served(downstream, next) => Poll::Ready((downstream, next)),
                Desk::Empty | Desk::Arrived(_) => Poll::Pending,
            }
        });
        let served = served.await;
        // Not reached when the request panicked or its connection was given up: what is in there then goes with it.
        self.0.give_back(workspace);
        served
    }

    /// Lets go of those that nobody needs any more.
    pub(crate) fn sweep(&self) {
        self.0.sweep();
    }
}

impl Workspace {
    fn new() -> Self {
        let desk = Rc::<Cell<Desk>>::default();
        let serving = Box::pin(serve_for_ever(Rc::clone(&desk)));
        Self { desk, serving }
    }
}

async fn serve_for_ever(desk: Rc<Cell<Desk>>) -> Infallible {
    loop {
        let mut downstream = poll_fn(|_| match desk.take() {
            Desk::Arrived(downstream) => Poll::Ready(downstream),
            other => {
                desk.set(other);
                Poll::Pending
            }
        })
        .await;
        let next = Session::new(&mut downstream).serve_request().await;
        desk.set(Desk::Served(downstream, next));
    }
}
