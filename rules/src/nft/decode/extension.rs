//! Extensions of iptables inside nftables: a name, a revision, and a structure of the kernel (`linux/netfilter/x_tables.h`).

use super::super::kernel::expression;
use super::super::wire::{find, number, text};
use crate::ports::Port;
use crate::ruleset::{Condition, Family, Match, Target};
use crate::settings::Owner;

/// A match of iptables; none for one that is not read here.
pub(super) fn condition(body: &[u8]) -> Option<Match> {
    match named(body)? {
        ("owner", 1, info) => owner(info),
        _ => None,
    }
}

/// A target of iptables; none for one that is not read here.
pub(super) fn target(body: &[u8], family: Family) -> Option<Target> {
    match (named(body)?, family) {
        (("REDIRECT", 0, info), Family::V4) => redirect(word(info, 4)?, halves(info, 16)?),
        (("REDIRECT", 0, info), Family::V6) => redirect(word(info, 0)?, halves(info, 36)?),
        _ => None,
    }
}

fn named(body: &[u8]) -> Option<(&str, u32, &[u8])> {
    let name = text(body, expression::EXTENSION_NAME)?;
    Some((name, number(body, expression::EXTENSION_REVISION)?, find(body, expression::EXTENSION_INFO)?))
}

/// `struct xt_owner_match_info`: the lowest and highest user, the same for groups, which of them count, which are negated.
fn owner(info: &[u8]) -> Option<Match> {
    const USER: u8 = 1;
    const GROUP: u8 = 2;
    let one =
        |from: usize| word(info, from).filter(|lowest| word(info, from + 4) == Some(*lowest)).map(Owner::Id);
    let (&asked, &negated) = (info.get(16)?, info.get(17)?);
    let condition = match asked {
        USER => Condition::User(one(0)?),
        GROUP => Condition::Group(one(8)?),
        _ => return None,
    };
    Some(Match { negated: negated & asked != 0, condition })
}

/// `struct nf_nat_range` of one range of ports and no addresses.
fn redirect(flags: u32, (lowest, highest): (u16, u16)) -> Option<Target> {
    const PORTS_GIVEN: u32 = 2;
    (flags == PORTS_GIVEN && lowest == highest).then(|| Port::new(lowest).map(Target::Redirect))?
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

/// Two ports, in the order of the network.
fn halves(info: &[u8], at: usize) -> Option<(u16, u16)> {
    let &[l0, l1, h0, h1] = info.get(at..at + 4)? else { return None };
    Some((u16::from_be_bytes([l0, l1]), u16::from_be_bytes([h0, h1])))
}
