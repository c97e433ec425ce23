//! Bounds what TLS handshakes under way can cost a worker, however many clients begin one and do not go on.
//!
//! Memory: when there are as many as there may be, the one that began first makes room for the next. Time: handshakes
//! compute in turn, a few between two looks at what is ready, so that a served connection waits for a few of them and
//! not for all.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::sync::Semaphore;

use crate::timer::{Deadline, Registered};

use crate::bounds;

/// The handshakes of one worker.
pub(crate) struct Handshakes(Rc<Shared>);

struct Shared {
    most: usize,
    next: Cell<u64>,
    /// In the order in which they began.
    under_way: RefCell<BTreeMap<u64, Weak<Deadline>>>,
    turns: Semaphore,
}

/// A handshake that is under way until this is dropped.
pub(crate) struct Handshaking {
    of: Rc<Shared>,
    number: u64,
}

impl Handshakes {
    pub(crate) fn new(most: usize) -> Self {
        let (next, under_way) = (Cell::default(), RefCell::default());
        Self(Rc::new(Shared {
            most: most.max(1),
            next,
            under_way,
            turns: Semaphore::new(bounds::HANDSHAKES_IN_ONE_ROUND),
        }))
    }

    /// Begins one, of a connection that waits for its client with this deadline.
    pub(crate) fn begin(&self, deadline: &Registered) -> Handshaking {
        let shared = &self.0;
        let number = shared.next.get();
        shared.next.set(number + 1);
        let mut under_way = shared.under_way.borrow_mut();
        under_way.insert(number, deadline.downgrade());
        let first = (under_way.len() > shared.most).then(|| under_way.pop_first()).flatten();
        drop(under_way);
        if let Some(deadline) = first.and_then(|(_, deadline)| deadline.upgrade()) {
            deadline.pass();
        }
        Handshaking { of: Rc::clone(shared), number }
    }
}

impl Handshaking {
    /// Whether it had to make room for another one.
    pub(crate) fn is_crowded_out(&self) -> bool {
        !self.of.under_way.borrow().contains_key(&self.number)
    }

    /// Runs what computes, a step whenever its turn comes. A turn ends only after the worker has looked for what else is
    /// ready.
    pub(crate) async fn in_turn<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let task = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let noted = Arc::new(Noted { task, woken: AtomicBool::new(true) });
        let waker = Waker::from(Arc::clone(&noted));
        loop {
            poll_fn(
                |_| if noted.woken.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending },
            )
            .await;
            let turn = self.of.turns.acquire().await.expect("turns are never closed");
            let stepped = future.as_mut().poll(&mut Context::from_waker(&waker));
            tokio::task::yield_now().await;
            drop(turn);
            if let Poll::Ready(output) = stepped {
                return output;
            }
        }
    }
}

/// Remembers that a task was woken for what computes, whatever else wakes it meanwhile.
struct Noted {
    task: Waker,
    woken: AtomicBool,
}

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.of.under_way.borrow_mut().remove(&self.number);
    }
}
