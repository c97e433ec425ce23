//! The hash table of one priority: made when it is first needed, kept while its members stay, and made beside the
//! requests where that takes long.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, OnceLock, mpsc},
    thread,
};

use snapshot::{Address, HashFunction};

use super::hash::{HashTable, Member, highest, size};

use crate::bounds;

/// The endpoints of one priority, by hashes.
pub(super) struct Hashed {
    pub(super) priority: u32,
    function: HashFunction,
    members: Arc<[Member]>,
    /// Where each is in the cluster's list.
    positions: Vec<u32>,
    table: Table,
    /// Whether it is being made beside the requests.
    awaited: Cell<bool>,
    /// What serves meanwhile.
    before: RefCell<Option<Former>>,
}

/// Nothing in it where it cannot be made.
type Table = Arc<OnceLock<Option<HashTable>>>;

/// A table of members as they were.
#[derive(Clone)]
struct Former {
    table: Table,
    /// Which member each is now, if it is one.
    now: Vec<Option<u32>>,
}

impl Former {
    fn pick(&self, hash: u64) -> Option<u32> {
        self.now[self.table.get()?.as_ref()?.pick(hash)? as usize]
    }
}

impl Hashed {
    /// For these members with their positions. A table of `old` goes on where they are the same.
    pub(super) fn new(
        priority: u32,
        function: HashFunction,
        endpoints: impl Iterator<Item = (u32, Member)>,
        old: Option<&Self>,
    ) -> Self {
        let (positions, members): (Vec<_>, Vec<_>) = endpoints.unzip();
        let members: Arc<[Member]> = members.into();
        let old = old.filter(|old| old.function == function);
        if let Some(same) = old.filter(|old| old.members == members) {
            let (table, before) = (Arc::clone(&same.table), RefCell::clone(&same.before));
            return Self {
                priority,
                function,
                members,
                positions,
                table,
                awaited: same.awaited.clone(),
                before,
            };
        }
        // A small one is made anew at once, and nothing serves in its place.
        let before = old.filter(|_| is_large(function, &members)).and_then(|old| old.serving(&members));
        let (table, before) = (Table::default(), RefCell::new(before));
        Self { priority, function, members, positions, table, awaited: Cell::new(false), before }
    }

    /// The position of the endpoint for a hash.
    pub(super) fn pick(&self, hash: u64) -> Option<usize> {
        let member = match self.table() {
            Some(table) => table.pick(hash)?,
            None => self.pick_meanwhile(hash)?,
        };
        Some(self.positions[member as usize] as usize)
    }

    /// The same without a table, for a few requests only.
    pub(super) fn pick_untabled(&self, hash: u64) -> Option<usize> {
        Some(self.positions[highest(&self.members, hash)? as usize] as usize)
    }

    /// Keys stay where they were as far as it is there: what is made meanwhile will leave most of them there, too.
    fn pick_meanwhile(&self, hash: u64) -> Option<u32> {
        let former = self.before.borrow().as_ref().and_then(|former| former.pick(hash));
        former.or_else(|| highest(&self.members, hash))
    }

    fn table(&self) -> Option<&HashTable> {
        if let Some(made) = self.table.get() {
            if made.is_some() && self.awaited.replace(false) {
                self.before.take();
            }
            return made.as_ref();
        }
        if self.awaited.get() {
            return None;
        }
        let job = Job {
            function: self.function,
            members: Arc::clone(&self.members),
            table: Arc::clone(&self.table),
        };
        if is_large(self.function, &self.members) && job.make_beside() {
            self.awaited.set(true);
            return None;
        }
        self.before.take();
        self.table.get_or_init(|| made(|| HashTable::new(self.function, &self.members))).as_ref()
    }

    /// What serves `members` until they have a table of their own.
    fn serving(&self, members: &[Member]) -> Option<Former> {
        let own = || Former {
            table: Arc::clone(&self.table),
            now: (0..).map(Some).take(self.members.len()).collect(),
        };
        let Former { table, now } = self
            .table
            .get()
            .and_then(Option::as_ref)
            .map(|_| own())
            .or_else(|| self.before.borrow().clone())?;
        let places: HashMap<&Address, u32> = members.iter().map(|member| &member.address).zip(0..).collect();
        let place = |then: u32| places.get(&self.members[then as usize].address).copied();
        let now = now.into_iter().map(|then| place(then?)).collect();
        Some(Former { table, now })
    }
}

/// Whether making the table takes too long for a request.
fn is_large(function: HashFunction, members: &[Member]) -> bool {
    size(function, members) > f64::from(bounds::MADE_AT_ONCE)
}

/// A table to be made.
struct Job {
    function: HashFunction,
    members: Arc<[Member]>,
    table: Table,
}

impl Job {
    /// Makes it on a thread that makes one after the other; false when there is none.
    fn make_beside(self) -> bool {
        static MAKER: LazyLock<Option<mpsc::Sender<Job>>> = LazyLock::new(|| {
            let (jobs, asked) = mpsc::channel::<Job>();
            let make = move || asked.into_iter().for_each(Job::make);
            thread::Builder::new().name("hash-tables".to_owned()).spawn(make).ok().map(|_| jobs)
        });
        MAKER.as_ref().is_some_and(|maker| maker.send(self).is_ok())
    }

    fn make(self) {
        // Members that have changed again since: nobody waits for it.
        if Arc::strong_count(&self.table) > 1 {
            self.table.get_or_init(|| made(|| HashTable::new(self.function, &self.members)));
        }
    }
}

/// The table, or nothing where making it panics: the cluster is served without one then, and others have theirs made.
fn made(make: impl FnOnce() -> HashTable) -> Option<HashTable> {
    // It shares nothing with others.
    let made = catch_unwind(AssertUnwindSafe(make)).ok();
    if made.is_none() {
        tracing::error!("making a hash table has panicked; its cluster is served without, at more cost");
    }
    made
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const SMALL: HashFunction = HashFunction::Ring { minimum_size: 1024 };
    const LARGE: HashFunction = HashFunction::Ring { minimum_size: 200_000 };

    fn hashed(function: HashFunction, members: &[u8], old: Option<&Hashed>) -> Hashed {
        let member = |n: &u8| Member { address: ([10, 0, 0, *n], 80).into(), weight: 1 };
        // Positions that differ from the members' places, and tell who it is.
        let members = members.iter().map(|n| (u32::from(*n) + 100, member(n)));
        Hashed::new(0, function, members, old)
    }

    fn picks(hashed: &Hashed) -> Vec<usize> {
        (0..2000_u64).map(|key| hashed.pick(super::super::hash_key(&key.to_le_bytes())).unwrap()).collect()
    }

    #[test]
    fn a_table_goes_on_while_its_members_are_the_same() {
        let first = hashed(SMALL, &[1, 2, 3], None);
        let before = picks(&first);
        let second = hashed(SMALL, &[1, 2, 3], Some(&first));
        assert!(Arc::ptr_eq(&first.table, &second.table) && second.table.get().is_some());
        assert_eq!(picks(&second), before);
        let third = hashed(SMALL, &[1, 2], Some(&second));
        assert!(!Arc::ptr_eq(&third.table, &second.table));
        assert_eq!(picks(&third), picks(&hashed(SMALL, &[1, 2], None)));
        assert!(third.before.borrow().is_none(), "what was before is not held");
    }

    #[test]
    fn a_large_table_is_made_beside_the_requests_that_are_served_meanwhile() {
        let first = hashed(LARGE, &[1, 2, 3, 4], None);
        let key = 7;
        assert!(first.pick(key).is_some());
        let start = Instant::now();
        while first.table.get().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "never made");
            thread::sleep(Duration::from_millis(10));
        }
        let before = picks(&first);
        assert!(first.table.get().is_some_and(|made| matches!(made, Some(HashTable::Ring(_)))));
        // One goes: its keys are spread over the others, all others stay, at once and under the new table, too.
        let second = hashed(LARGE, &[1, 2, 4], Some(&first));
        second.awaited.set(true);
        let meanwhile = picks(&second);
        let stayed = |after: &[usize]| {
            before
                .iter()
                .zip(after)
                .filter(|(before, _)| **before != 103)
                .all(|(before, after)| before == after)
        };
        assert!(stayed(&meanwhile) && !meanwhile.contains(&103));
        let third = hashed(LARGE, &[1, 2, 4, 5], Some(&second));
        third.awaited.set(true);
        assert!(stayed(&picks(&third)), "those that follow before it is made have what was");
    }

    #[test]
    fn a_table_that_cannot_be_made_is_done_without() {
        assert!(made(|| panic!("injected")).is_none());
        let first = hashed(LARGE, &[1, 2, 3, 4], None);
        first.awaited.set(true);
        first.table.set(made(|| HashTable::new(LARGE, &first.members))).unwrap();
        let before = picks(&first);
        // Nobody goes on waiting for it, and what served before does.
        let second = hashed(LARGE, &[1, 2, 3, 4, 5], Some(&first));
        second.table.set(None).unwrap();
        assert_eq!(picks(&second), before);
        let alone = hashed(LARGE, &[1, 2, 3], None);
        alone.table.set(None).unwrap();
        let keys = (0..2000_u64).map(|key| super::super::hash_key(&key.to_le_bytes()));
        assert_eq!(picks(&alone), keys.map(|hash| alone.pick_untabled(hash).unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_table_keys_are_spread_by_weight_and_stay() {
        let member = |n: u8, weight| Member { address: ([10, 0, 0, n], 80).into(), weight };
        let members = [member(1, 1), member(2, 1), member(3, 2)];
        let mut hits = [0; 3];
        for key in 0..20_000_u64 {
            let hash = super::super::hash_key(&key.to_le_bytes());
            let picked = highest(&members, hash).unwrap() as usize;
            hits[picked] += 1;
            let without = highest(&members[..2], hash).unwrap() as usize;
            assert!(picked == 2 || without == picked);
        }
        assert!((4500..5500).contains(&hits[0]) && (9300..10_700).contains(&hits[2]), "{hits:?}");
        assert_eq!(highest(&[], 1), None);
    }
}
