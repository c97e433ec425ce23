//! Who waits for a connection of a cluster, in the order they came.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Tells the endpoints of a cluster apart, as one worker knows them.
pub(crate) type Whose = u32;

/// The requests of one worker that wait.
#[derive(Default)]
pub(super) struct Queue(RefCell<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    all: BTreeMap<u64, Waiter>,
    /// The same by their endpoints.
    of: BTreeSet<(Whose, u64)>,
}

struct Waiter {
    /// Whether it is to look, and has not.
    called: bool,
    waker: Option<Waker>,
}

impl Queue {
    /// The last place.
    pub(super) fn join(self: &Rc<Self>, whose: Whose) -> Turn {
        let mut waiting = self.0.borrow_mut();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.all.insert(ticket, Waiter { called: false, waker: None });
        waiting.of.insert((whose, ticket));
        Turn { queue: Rc::clone(self), whose, ticket }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().all.is_empty()
    }

    /// Whether somebody waits for a connection to this endpoint.
    pub(super) fn has(&self, whose: Whose) -> bool {
        self.0.borrow().of_endpoint(whose).next().is_some()
    }

    /// A connection to an endpoint has room. It is for who came first of those who want that endpoint, else, because it can
    /// make room for another one, for who came first of all.
    pub(super) fn offer(&self, whose: Whose) {
        self.call(|waiting| waiting.uncalled_of(whose).or_else(|| waiting.uncalled()));
    }

    /// A connection to an endpoint has ended. Its place is for who came first; and who wants that endpoint may have one in
    /// any case if it was the last.
    pub(super) fn make_room(&self, whose: Whose) {
        self.call(Waiting::uncalled);
        self.call(|waiting| waiting.uncalled_of(whose));
    }

    /// Has all look who wait: the rules are others now, or nobody knows for whom there is room.
    pub(super) fn call_all(&self) {
        let tickets: Vec<u64> = self.0.borrow().all.keys().copied().collect();
        tickets.into_iter().for_each(|ticket| self.call(|_| Some(ticket)));
    }

    fn call(&self, whom: impl FnOnce(&Waiting) -> Option<u64>) {
        let mut waiting = self.0.borrow_mut();
        let waiter = whom(&waiting).and_then(|ticket| waiting.all.get_mut(&ticket));
        let waker = waiter.and_then(|waiter| {
            waiter.called = true;
            waiter.waker.take()
        });
        // Not borrowed any more: whoever is woken may leave.
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiting {
    fn of_endpoint(&self, whose: Whose) -> impl Iterator<Item = u64> {
        self.of.range((whose, 0)..=(whose, u64::MAX)).map(|(_, ticket)| *ticket)
    }

    fn uncalled_of(&self, whose: Whose) -> Option<u64> {
        self.of_endpoint(whose).find(|ticket| self.all.get(ticket).is_some_and(|waiter| !waiter.called))
    }

    fn uncalled(&self) -> Option<u64> {
        self.all.iter().find(|(_, waiter)| !waiter.called).map(|(ticket, _)| *ticket)
    }
}

/// A place in the queue, given up when it is dropped.
pub(crate) struct Turn {
    queue: Rc<Queue>,
    whose: Whose,
    ticket: u64,
}

impl Turn {
    /// Ends when it is worth looking for a connection; whoever finds none keeps the place.
    pub(crate) async fn come(&self) {
        poll_fn(|cx| self.poll_come(cx)).await;
    }

    fn poll_come(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.queue.0.borrow_mut();
        let Some(waiter) = waiting.all.get_mut(&self.ticket) else { return Poll::Ready(()) };
        if std::mem::take(&mut waiter.called) {
            return Poll::Ready(());
        }
        waiter.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.queue.0.borrow_mut();
        waiting.all.remove(&self.ticket);
        waiting.of.remove(&(self.whose, self.ticket));
        drop(waiting);
        // There may be more than was taken, and who leaves may have been called for something.
        self.queue.make_room(self.whose);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(turn: &Turn) -> bool {
        turn.poll_come(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_came_first_is_called_first_and_keeps_the_place() {
        let queue = Rc::new(Queue::default());
        let [first, second] = [(); 2].map(|()| queue.join(1));
        assert!(!comes(&first) && !comes(&second));
        queue.offer(1);
        assert!(comes(&first) && !comes(&second));
        // It has found nothing.
        queue.offer(1);
        assert!(comes(&first) && !comes(&second));
    }

    #[test]
    fn a_connection_is_for_those_of_its_endpoint_before_it_makes_room_for_others() {
        let queue = Rc::new(Queue::default());
        let (other, own) = (queue.join(2), queue.join(1));
        queue.offer(1);
        assert!(!comes(&other) && comes(&own));
        drop(own);
        assert!(comes(&other), "there may be more");
        queue.offer(1);
        assert!(comes(&other));
    }

    #[test]
    fn who_leaves_when_called_has_the_next_called() {
        let queue = Rc::new(Queue::default());
        let [first, second] = [(); 2].map(|()| queue.join(1));
        queue.offer(1);
        drop(first);
        assert!(comes(&second));
        assert!(queue.has(1) && !queue.has(2));
        drop(second);
        assert!(queue.is_empty());
    }

    #[test]
    fn two_places_are_for_two() {
        let queue = Rc::new(Queue::default());
        let [first, second, third] = [(); 3].map(|()| queue.join(1));
        queue.offer(1);
        queue.offer(1);
        assert!(comes(&first) && comes(&second) && !comes(&third));
    }
}
