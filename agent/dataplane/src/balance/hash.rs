//! Consistent hash tables: equal keys meet the same endpoint as long as it is there. The numbers are Envoy's (xxHash64
//! of addresses and keys), so that a mesh in which both serve sends a key to one place.

use std::net::IpAddr;

use snapshot::{Address, HashFunction};
use twox_hash::XxHash64;

use crate::bounds;

/// An endpoint as a table sees it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) address: Address,
    /// Relative to the other members, at least 1.
    pub(super) weight: u64,
}

/// A table that maps hashes to members, by their place in the list it was made of.
#[derive(Debug)]
pub(super) enum HashTable {
    /// Points with the member each belongs to, sorted.
    Ring(Vec<(u64, u32)>),
    /// Member by the remainder of the hash.
    Maglev(Vec<u32>),
}

/// Hash of a key.
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

/// Hash of a client's address, as Envoy writes it.
pub(crate) fn hash_address(address: IpAddr) -> u64 {
    hash_key(address.to_string().as_bytes())
}

impl HashTable {
    /// The table for these endpoints.
    pub(super) fn new(function: HashFunction, members: &[Member]) -> Self {
        match function {
            HashFunction::Ring { minimum_size } => Self::Ring(ring(members, minimum_size)),
            HashFunction::Maglev { table_size } => Self::Maglev(maglev(members, u64::from(table_size))),
        }
    }

    /// The member for a hash; `None` only when there are none.
    pub(super) fn pick(&self, hash: u64) -> Option<u32> {
        match self {
            Self::Ring(points) => {
                let next = points.partition_point(|(point, _)| *point < hash);
                points.get(next).or(points.first()).map(|(_, member)| *member)
            }
            Self::Maglev(table) => {
                let slot = hash.checked_rem(table.len() as u64)?;
                table.get(usize::try_from(slot).ok()?).copied()
            }
        }
    }
}

/// How many places a table has, about: what it costs to make.
pub(super) fn size(function: HashFunction, members: &[Member]) -> f64 {
    match function {
        HashFunction::Ring { minimum_size } => scale(members, minimum_size),
        HashFunction::Maglev { table_size } => f64::from(table_size),
    }
}

/// The member that a hash draws highest for (rendezvous hashing): who it is changes for no other hash when members come
/// or go, and nothing needs to be made first, but all are looked at.
pub(super) fn highest(members: &[Member], hash: u64) -> Option<u32> {
    let score = |member: &Member| {
        let drawn = XxHash64::oneshot(hash, member.address.to_string().as_bytes());
        // Uniform in 0–1, without either; drawn so, a member wins by its weight.
        let uniform = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        member.weight as f64 / -uniform.ln()
    };
    let scored = (0..).zip(members).map(|(index, member)| (index, score(member)));
    scored.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
}

fn scale(members: &[Member], minimum_size: u32) -> f64 {
    let total: u64 = members.iter().map(|member| member.weight).sum();
    let least = members.iter().map(|member| member.weight as f64 / total as f64).fold(1.0, f64::min);
    // A whole number of points for the lightest endpoint.
    ((least * f64::from(minimum_size)).ceil() / least).min(f64::from(bounds::RING))
}

fn ring(members: &[Member], minimum_size: u32) -> Vec<(u64, u32)> {
    let total: u64 = members.iter().map(|member| member.weight).sum();
    let share = |member: &Member| member.weight as f64 / total as f64;
    let scale = scale(members, minimum_size);
    let mut points = Vec::new();
    let (mut current, mut target) = (0.0, 0.0);
    for (index, member) in (0..).zip(members) {
        target += scale * share(member);
        let mut number = 0;
        while current < target {
            let point = XxHash64::oneshot(0, format!("{}_{number}", member.address).as_bytes());
            points.push((point, index));
            number += 1;
            current += 1.0;
        }
    }
    points.sort_unstable();
    points
}

/// Fills the table as the Maglev paper says (§3.4), heavier endpoints more often.
fn maglev(members: &[Member], size: u64) -> Vec<u32> {
    if members.is_empty() {
        return Vec::new();
    }
    let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(1) as f64;
    let mut turns: Vec<Turn> =
        (0..).zip(members).map(|(index, member)| Turn::new(index, member, size)).collect();
    let mut table = vec![FREE; usize::try_from(size).unwrap_or(0)];
    let mut left = table.len();
    for round in 1.. {
        for turn in &mut turns {
            if left == 0 {
                return table;
            }
            if turn.waits(round, heaviest) {
                continue;
            }
            if let Some(slot) = turn.free_slot(&table) {
                table[slot] = turn.index;
                left -= 1;
            }
        }
    }
    table
}

/// A slot of a Maglev table that no endpoint has yet.
const FREE: u32 = u32::MAX;

/// An endpoint that takes slots of a Maglev table in its turn.
struct Turn {
    index: u32,
    weight: f64,
    /// The weight it must have reached for its next turn: turns gone by, times the heaviest endpoint's weight.
    target: f64,
    /// Its order of the slots: each `skip` further than the one before.
    offset: u64,
    skip: u64,
    /// How many slots of that order it has looked at.
    next: u64,
    /// Slots of the table.
    size: u64,
}

impl Turn {
    fn new(index: u32, member: &Member, size: u64) -> Self {
        let name = member.address.to_string();
        let offset = XxHash64::oneshot(0, name.as_bytes()) % size;
        let skip = XxHash64::oneshot(1, name.as_bytes()) % (size - 1).max(1) + 1;
        Self { index, weight: member.weight as f64, target: 0.0, offset, skip, next: 0, size }
    }

    /// Whether a lighter endpoint takes no slot in this round, counted from 1.
    fn waits(&mut self, round: u32, heaviest: f64) -> bool {
        let waits = f64::from(round) * self.weight < self.target;
        if !waits {
            self.target += heaviest;
        }
        waits
    }

    /// The first free slot in the endpoint's order.
    fn free_slot(&mut self, table: &[u32]) -> Option<usize> {
        let is_free = |slot: &usize| table[*slot] == FREE;
        let in_order = std::iter::from_fn(|| {
            let slot = (self.offset + self.skip * self.next) % self.size;
            self.next += 1;
            usize::try_from(slot).ok()
        });
        // A prime size, which Istio asks for, lets each order visit every slot.
        in_order.take(table.len()).find(is_free).or_else(|| (0..table.len()).find(is_free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: HashFunction = HashFunction::Ring { minimum_size: 1024 };
    const MAGLEV: HashFunction = HashFunction::Maglev { table_size: 65537 };

    fn members(weights: &[u64]) -> Vec<Member> {
        let member =
            |(n, weight): (u8, &u64)| Member { address: ([10, 0, 0, n], 80).into(), weight: *weight };
        (0..).zip(weights).map(member).collect()
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..20_000).map(|n| hash_key(format!("user-{n}").as_bytes()))
    }

    fn hits(table: &HashTable, members: usize) -> Vec<u32> {
        let mut hits = vec![0; members];
        keys().for_each(|key| hits[table.pick(key).unwrap() as usize] += 1);
        hits
    }

    #[test]
    fn keys_are_spread_by_weight() {
        for function in [RING, MAGLEV] {
            let hits = hits(&HashTable::new(function, &members(&[1, 1, 2])), 3);
            assert!((4000..6000).contains(&hits[0]) && (4000..6000).contains(&hits[1]), "{hits:?}");
            assert!((8500..11500).contains(&hits[2]), "{hits:?}");
        }
    }

    #[test]
    fn losing_an_endpoint_moves_hardly_more_than_its_own_keys() {
        let all = members(&[1; 10]);
        let gone = all[3].clone();
        let rest: Vec<Member> = all.iter().filter(|member| **member != gone).cloned().collect();
        for (function, allowed) in [(RING, 2000), (MAGLEV, 1000)] {
            let (before, after) = (HashTable::new(function, &all), HashTable::new(function, &rest));
            let before = |key| all[before.pick(key).unwrap() as usize].clone();
            let after = |key| rest[after.pick(key).unwrap() as usize].clone();
            let moved = keys().filter(|key| before(*key) != gone && before(*key) != after(*key)).count();
            assert!(moved <= allowed, "{function:?}: {moved}");
        }
    }

    #[test]
    fn nobody_is_picked_from_nobody() {
        assert_eq!(HashTable::new(RING, &[]).pick(1), None);
        assert_eq!(HashTable::new(MAGLEV, &[]).pick(1), None);
    }

    #[test]
    fn the_hash_is_xxhash64() {
        // From the reference implementation.
        assert_eq!(hash_key(b""), 0xef46_db37_51d8_e999);
        assert_eq!(hash_key(b"a"), 0xd24e_c4f1_a98c_6e5b);
    }
}
