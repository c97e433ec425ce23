//! Tasks of a worker that must go on as long as it does.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use crate::{alarm, timer::TICK};

/// Runs what `begin` makes to its end; one that panics is begun anew, a tick later.
pub(crate) async fn keep_up<F: Future<Output = ()>>(what: &str, begin: impl Fn() -> F) {
    loop {
        let mut running = Box::pin(begin());
        let ended = poll_fn(|cx| {
            // What it shares with others are cells, of which none stays borrowed when it unwinds.
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
                Ok(poll) => poll.map(|()| true),
                Err(_) => Poll::Ready(false),
            }
        });
        if ended.await {
            return;
        }
        tracing::error!(task = what, "a task of a worker has panicked and is restarted");
        // What made it panic may still be there.
        alarm::sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn a_task_that_panics_begins_anew_until_it_ends() {
        let (runs, shared) = (Cell::new(0), RefCell::new(0));
        alarm::kept(keep_up("test", async || {
            tokio::task::yield_now().await;
            runs.set(runs.get() + 1);
            *shared.borrow_mut() += 1;
            let _borrowed = shared.borrow_mut();
            assert!(runs.get() > 2, "injected");
        }));
        assert_eq!((runs.get(), *shared.borrow()), (3, 3));
    }
}
