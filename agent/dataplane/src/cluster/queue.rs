//! Who waits for a connection of a cluster, in the order they came.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use foldhash::fast::RandomState;

/// Tells the endpoints of a cluster apart, as one worker knows them.
pub(crate) type EndpointNumber = u32;

/// The requests of one worker that wait.
#[derive(Default)]
pub(super) struct Queue(RefCell<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    all: HashMap<u64, Waiter, RandomState>,
    /// The same by their endpoints.
    of: BTreeSet<(EndpointNumber, u64)>,
    /// Those of them that are not about to look.
    uncalled: BTreeSet<u64>,
    uncalled_of: BTreeSet<(EndpointNumber, u64)>,
}

struct Waiter {
    number: EndpointNumber,
    waker: Option<Waker>,
}

impl Queue {
    /// The last place.
    pub(super) fn join(self: &Rc<Self>, number: EndpointNumber) -> QueueTicket {
        let mut waiting = self.0.borrow_mut();
        let ticket = waiting.next;
        waiting.next += 1;
        waiting.all.insert(ticket, Waiter { number, waker: None });
        waiting.of.insert((number, ticket));
        waiting.leave_uncalled(number, ticket);
        QueueTicket { queue: Rc::clone(self), number, ticket }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().all.is_empty()
    }

    /// Whether somebody waits for a connection to this endpoint.
    pub(super) fn has(&self, number: EndpointNumber) -> bool {
        first_of(&self.0.borrow().of, number).is_some()
    }

    /// A connection to an endpoint has room. It is for who came first of those who want that endpoint, else, because it can
    /// make room for another one, for who came first of all.
    pub(super) fn offer(&self, number: EndpointNumber) {
        self.call(|waiting| first_of(&waiting.uncalled_of, number).or_else(|| waiting.first_uncalled()));
    }

    /// A connection to an endpoint has ended. Its place is for who came first; and who wants that endpoint may have one in
    /// any case if it was the last.
    pub(super) fn make_room(&self, number: EndpointNumber) {
        self.call(Waiting::first_uncalled);
        self.call(|waiting| first_of(&waiting.uncalled_of, number));
    }

    /// Has all look who wait: the rules are others now, or nobody knows for whom there is room.
    pub(super) fn call_all(&self) {
        let tickets: Vec<u64> = self.0.borrow().uncalled.iter().copied().collect();
        tickets.into_iter().for_each(|ticket| self.call(|_| Some(ticket)));
    }

    fn call(&self, whom: impl FnOnce(&Waiting) -> Option<u64>) {
        let mut waiting = self.0.borrow_mut();
        let waker = whom(&waiting).and_then(|ticket| waiting.note_called(ticket));
        // Not borrowed any more: whoever is woken may leave.
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Waiting {
    fn first_uncalled(&self) -> Option<u64> {
        self.uncalled.first().copied()
    }

    fn leave_uncalled(&mut self, number: EndpointNumber, ticket: u64) {
        self.uncalled.insert(ticket);
        self.uncalled_of.insert((number, ticket));
    }

    /// Whom to wake, if it waits already.
    fn note_called(&mut self, ticket: u64) -> Option<Waker> {
        let waiter = self.all.get_mut(&ticket)?;
        self.uncalled.remove(&ticket);
        self.uncalled_of.remove(&(waiter.number, ticket));
        waiter.waker.take()
    }

    fn remove(&mut self, number: EndpointNumber, ticket: u64) {
        self.note_called(ticket);
        self.all.remove(&ticket);
        self.of.remove(&(number, ticket));
    }
}

fn first_of(tickets: &BTreeSet<(EndpointNumber, u64)>, number: EndpointNumber) -> Option<u64> {
    tickets.range((number, 0)..=(number, u64::MAX)).next().map(|(_, ticket)| *ticket)
}

/// A place in the queue, given up when it is dropped.
pub(crate) struct QueueTicket {
    queue: Rc<Queue>,
    number: EndpointNumber,
    ticket: u64,
}

impl QueueTicket {
    /// Ends when it is worth looking for a connection; whoever finds none keeps the place.
    pub(crate) async fn come(&self) {
        poll_fn(|cx| self.poll_come(cx)).await;
    }

    fn poll_come(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.queue.0.borrow_mut();
        if !waiting.uncalled.contains(&self.ticket) {
            waiting.leave_uncalled(self.number, self.ticket);
            return Poll::Ready(());
        }
        let Some(waiter) = waiting.all.get_mut(&self.ticket) else { return Poll::Ready(()) };
        waiter.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        let mut waiting = self.queue.0.borrow_mut();
        waiting.remove(self.number, self.ticket);
        drop(waiting);
        // There may be more than was taken, and who leaves may have been called for something.
        self.queue.make_room(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes(ticket: &QueueTicket) -> bool {
        ticket.poll_come(&Context::from_waker(Waker::noop())).is_ready()
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
    fn all_look_once_when_all_are_called_and_leave_nothing_behind() {
        let queue = Rc::new(Queue::default());
        let turns: Vec<_> = (0..100).map(|_| queue.join(1)).collect();
        assert!(!turns.iter().any(comes));
        queue.call_all();
        assert!(queue.0.borrow().uncalled.is_empty() && queue.0.borrow().uncalled_of.is_empty());
        queue.call_all();
        assert!(turns.iter().all(comes) && !turns.iter().any(comes));
        drop(turns);
        let left = queue.0.borrow();
        assert!(left.all.is_empty() && left.of.is_empty() && left.uncalled.is_empty());
        assert!(left.uncalled_of.is_empty());
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
