//! Round robin: whose turn it is.

use std::{cmp::Reverse, collections::BinaryHeap};

/// The turns of one group of endpoints.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    members: usize,
    /// Whose turn is next while all shares are equal.
    next: usize,
    /// When each one's turn comes, earliest first; made when shares differ.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
}

/// Virtual time between two turns of an endpoint whose share is 1.
const ROUND: f64 = 1_048_576.0;
/// Shares below this wait as if they were this: even the coldest endpoint has its turn.
const LEAST_SHARE: f64 = 0.001;

impl RoundRobin {
    pub(super) fn new(members: usize) -> Self {
        Self { members, next: 0, queue: BinaryHeap::new() }
    }

    /// The index whose turn it is. `share` is asked only when shares differ; `draw` decides where the first turn is,
    /// so that the workers and proxies of a mesh do not march in step.
    pub(super) fn next(&mut self, uniform: bool, draw: u64, share: impl Fn(usize) -> f64) -> usize {
        if uniform {
            let start = if self.next == 0 { (draw >> 24) as usize } else { self.next };
            let index = start % self.members.max(1);
            self.next = index + 1;
            return index;
        }
        let wait = |index: usize| (ROUND / share(index).max(LEAST_SHARE)) as u64;
        if self.queue.is_empty() {
            self.queue.extend((0..self.members).map(|index| Reverse((wait(index), index))));
        }
        let Some(mut first) = self.queue.peek_mut() else { return 0 };
        let Reverse((due, index)) = *first;
        // Replaced in place: the queue does not grow.
        *first = Reverse((due.saturating_add(wait(index)), index));
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_take_turns_from_a_random_beginning() {
        let mut round_robin = RoundRobin::new(3);
        let order: Vec<usize> = (0..6).map(|_| round_robin.next(true, 1 << 24, |_| 1.0)).collect();
        assert_eq!(order, [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn shares_divide_the_turns_evenly_in_time() {
        let mut round_robin = RoundRobin::new(2);
        let order: Vec<usize> =
            (0..8).map(|_| round_robin.next(false, 0, |index| [3.0, 1.0][index])).collect();
        assert_eq!(order.iter().filter(|index| **index == 1).count(), 2);
        assert!(order[..4].contains(&1) && order[4..].contains(&1), "{order:?}");
    }

    #[test]
    fn nobody_has_no_turn() {
        assert_eq!(RoundRobin::new(0).next(true, 5, |_| 1.0), 0);
        assert_eq!(RoundRobin::new(0).next(false, 5, |_| 1.0), 0);
    }
}
