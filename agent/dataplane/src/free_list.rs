//! What is kept for later use: as much as a busy moment needs, no longer than busy moments come.

use std::cell::{Cell, RefCell};

/// Things of one kind that nobody uses at the moment.
pub(crate) struct FreeList<T> {
    /// Those used last are at the end, and taken first.
    kept: RefCell<Vec<T>>,
    most: usize,
    /// The fewest that there have been since the last sweep: so many nobody has needed.
    fewest: Cell<usize>,
}

impl<T> FreeList<T> {
    /// None yet, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { kept: RefCell::default(), most, fewest: Cell::new(0) }
    }

    pub(crate) fn take(&self) -> Option<T> {
        let mut kept = self.kept.borrow_mut();
        let taken = kept.pop();
        self.fewest.set(self.fewest.get().min(kept.len()));
        taken
    }

    pub(crate) fn give_back(&self, thing: T) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.most {
            kept.push(thing);
        }
    }

    /// Lets go of half of those that nobody has needed since the last sweep: a pause is soon over, a quiet night is not.
    pub(crate) fn sweep(&self) {
        let mut kept = self.kept.borrow_mut();
        kept.drain(..self.fewest.get().div_ceil(2));
        self.fewest.set(kept.len());
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses so many at the same time.
    fn need(free_list: &FreeList<u8>, number: usize) {
        let taken: Vec<_> = (0..number).map(|_| free_list.take().unwrap_or_default()).collect();
        taken.into_iter().for_each(|thing| free_list.give_back(thing));
    }

    #[test]
    fn what_busy_moments_need_is_kept_between_them() {
        let free_list = FreeList::new(100);
        need(&free_list, 80);
        free_list.sweep();
        for _ in 0..10 {
            need(&free_list, 80);
            free_list.sweep();
        }
        assert_eq!(free_list.len(), 80);
    }

    #[test]
    fn what_nobody_needs_any_more_goes_by_halves() {
        let free_list = FreeList::new(100);
        need(&free_list, 200);
        assert_eq!(free_list.len(), 100);
        free_list.sweep();
        let left: Vec<_> = (0..8)
            .map(|_| {
                need(&free_list, 4);
                free_list.sweep();
                free_list.len()
            })
            .collect();
        assert_eq!(left, [52, 28, 16, 10, 7, 5, 4, 4]);
    }

    #[test]
    fn at_rest_nothing_is_left() {
        let free_list = FreeList::new(100);
        need(&free_list, 100);
        (0..10).for_each(|_| free_list.sweep());
        assert_eq!(free_list.len(), 0);
    }
}
