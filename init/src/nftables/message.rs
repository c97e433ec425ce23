//! Messages of netlink to and from nf_tables (`linux/netlink.h`, `linux/netfilter/nfnetlink.h`).

use nix::errno::Errno;
use rules::nft::encode::{Change, Kind};
use rules::ruleset::Family;

/// A request for a list.
pub(super) struct Request {
    kind: u16,
    family: u8,
    body: Vec<u8>,
}

/// One entry of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    kind: u16,
    family: u8,
    /// The attributes.
    pub(super) body: Vec<u8>,
}

/// The part of nfnetlink that is nf_tables.
const SUBSYSTEM: u16 = 10 << 8;
/// Families of tables.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_ELEMENTS: u16 = 13;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

impl Request {
    /// The tables of all families.
    pub(super) fn tables() -> Self {
        Self { kind: GET_TABLE, family: 0, body: Vec::new() }
    }

    /// The chains of all tables that serve both families.
    pub(super) fn chains() -> Self {
        Self { kind: GET_CHAIN, family: INET, body: Vec::new() }
    }

    /// The rules of one table, in order.
    pub(super) fn rules(body: Vec<u8>) -> Self {
        Self { kind: GET_RULE, family: INET, body }
    }

    /// The chains of all tables of all families.
    pub(super) fn all_chains() -> Self {
        Self { kind: GET_CHAIN, family: 0, body: Vec::new() }
    }

    /// The rules of all tables of all families, in order.
    pub(super) fn all_rules() -> Self {
        Self { kind: GET_RULE, family: 0, body: Vec::new() }
    }

    /// The elements of one set.
    pub(super) fn elements(body: Vec<u8>) -> Self {
        Self { kind: GET_ELEMENTS, family: INET, body }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        message(SUBSYSTEM | self.kind, REQUEST | DUMP, 0, (self.family, 0), &self.body)
    }
}

impl Answer {
    /// The end of a list.
    pub(super) const DONE: Self = Self { kind: DONE, family: 0, body: Vec::new() };

    /// Whether the table is of the kind that serves both families.
    pub(super) fn is_inet(&self) -> bool {
        self.family == INET
    }

    /// Whether the table is of the kind that iptables makes.
    pub(super) fn is_of_iptables(&self) -> bool {
        matches!(self.family, IPV4 | IPV6)
    }

    /// Whether it is about a table that iptables makes for `family`.
    pub(super) fn is_for(&self, family: Family) -> bool {
        self.family == if family == Family::V4 { IPV4 } else { IPV6 }
    }

    /// The answers in one datagram; an error for a list that could not be made, or changed meanwhile.
    pub(super) fn read_all(datagram: &[u8]) -> impl Iterator<Item = Result<Self, Errno>> {
        messages(datagram).map(|Message { kind, flags, payload, .. }| {
            if flags & INTERRUPTED != 0 {
                return Err(Errno::EINTR);
            }
            match kind {
                // A list that ends early says why.
                DONE | ERROR => error(payload).map_or(Ok(Self::DONE), Err),
                _ => {
                    let (head, body) = payload.split_at_checked(4).ok_or(Errno::EBADMSG)?;
                    Ok(Self { kind, family: head[0], body: body.to_vec() })
                }
            }
        })
    }
}

/// All changes in one transaction. Each is numbered by its place, counted from 1.
pub(super) fn batch(changes: &[Change]) -> Vec<u8> {
    let mut bytes = message(BATCH_BEGIN, REQUEST, 0, (0, SUBSYSTEM >> 8), &[]);
    for (change, number) in changes.iter().zip(1..) {
        let flags = match change.kind {
            Kind::AddTable | Kind::AddChain | Kind::AddSet | Kind::AddElements => CREATE,
            Kind::AddRule => CREATE | APPEND,
            Kind::DeleteTable => 0,
        };
        bytes.extend(message(
            SUBSYSTEM | change.kind as u16,
            REQUEST | flags,
            number,
            (INET, 0),
            &change.body,
        ));
    }
    bytes.extend(message(BATCH_END, REQUEST, 0, (0, SUBSYSTEM >> 8), &[]));
    bytes
}

/// The first change that was refused: its number, and why.
pub(super) fn first_refusal(datagram: &[u8]) -> Option<(u32, Errno)> {
    messages(datagram).filter(|message| message.kind == ERROR).find_map(|message| {
        let error = error(message.payload)?;
        // Behind the error stands the head of the message that it answers.
        let number = message.payload.get(12..16)?.try_into().ok()?;
        Some((u32::from_ne_bytes(number), error))
    })
}

/// The error at the beginning of a payload; none when it says success.
fn error(payload: &[u8]) -> Option<Errno> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}

fn message(kind: u16, flags: u16, number: u32, (family, resource): (u8, u16), body: &[u8]) -> Vec<u8> {
    let length = HEADER + 4 + body.len();
    let mut bytes = Vec::with_capacity(length);
    // No rule comes near the four gigabytes at which this would be cut off.
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}

struct Message<'b> {
    kind: u16,
    flags: u16,
    payload: &'b [u8],
}

const HEADER: usize = 16;

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<HEADER>()?;
        let &[l0, l1, l2, l3, k0, k1, f0, f1, ..] = head;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes([k0, k1]), flags: u16::from_ne_bytes([f0, f1]), payload })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_numbered_by_place_and_stands_between_its_marks() {
        let change = Change { kind: Kind::AddTable, body: vec![1, 2, 3, 4], words: String::new() };
        let bytes = batch(&[change]);
        let kinds: Vec<_> = messages(&bytes).map(|message| message.kind).collect();
        assert_eq!(kinds, [BATCH_BEGIN, SUBSYSTEM, BATCH_END]);
    }

    #[test]
    fn the_refused_change_is_found_by_its_number() {
        let mut payload = (-2_i32).to_ne_bytes().to_vec();
        payload.extend(&message(SUBSYSTEM, 0, 7, (INET, 0), &[])[..HEADER]);
        let mut datagram = vec![0; HEADER];
        datagram[..4].copy_from_slice(&u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes());
        datagram[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        datagram.extend(payload);
        assert_eq!(first_refusal(&datagram), Some((7, Errno::ENOENT)));
        assert_eq!(first_refusal(&datagram[..20]), None);
    }

    #[test]
    fn lists_end_and_break_off_as_the_kernel_says() {
        let mut done = message(DONE, 0, 0, (0, 0), &[]);
        assert_eq!(Answer::read_all(&done).collect::<Vec<_>>(), [Ok(Answer::DONE)]);
        done[6..8].copy_from_slice(&INTERRUPTED.to_ne_bytes());
        assert_eq!(Answer::read_all(&done).collect::<Vec<_>>(), [Err(Errno::EINTR)]);
        assert_eq!(Answer::read_all(&[1, 2, 3]).count(), 0);
    }
}
