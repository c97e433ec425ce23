//! Extensions of iptables, as the kernel hands them out of either kind of iptables: a name, a revision, and a structure
//! (`linux/netfilter/xt_*.h`).
//!
//! Understood is only what our rules ask for: any bit that says more makes an extension one that is not.

use crate::bytes::{half, is_zero, text, word};
use crate::ports::{Port, PortRange};
use crate::ruleset::{Condition, ConnectionState, Family, Match, Target};
use crate::settings::Owner;

/// What a match asks of a packet; none for one that is not understood.
pub(crate) fn conditions(name: &str, revision: u8, info: &[u8]) -> Option<Vec<Match>> {
    let one = match (name, revision) {
        ("tcp", 0) if is_zero(info.get(8..11)) => return sides(info, *info.get(11)?),
        ("udp", 0) => return sides(info, *info.get(8)?),
        ("multiport", 1) => destination_ports(info)?,
        ("owner", 1) => owner(info)?,
        ("mark", 1) => mark(info, Condition::Mark)?,
        ("connmark", 1) => mark(info, Condition::ConnectionMark)?,
        ("conntrack", 2 | 3) => connection_state(info)?,
        ("comment", 0) => Condition::Comment(text(info)?.to_owned()).into(),
        _ => return None,
    };
    Some(vec![one])
}

/// What a target does; none for one that is not understood.
pub(crate) fn target(name: &str, revision: u8, info: &[u8], family: Family) -> Option<Target> {
    match (name, revision, family) {
        ("REDIRECT", 0, Family::V4) => redirect(word(info, 4)?, network_halves(info, 16)?),
        ("REDIRECT", 0, Family::V6) => redirect(word(info, 0)?, network_halves(info, 36)?),
        ("MARK", 2, _) if word(info, 4)? == u32::MAX => Some(Target::SetMark(word(info, 0)?)),
        ("CONNMARK", 1 | 2, _) => connection_mark(info, revision),
        ("TPROXY", 1, _) => tproxy(info),
        ("CT", 0..=2, _) => zone(info),
        _ => None,
    }
}

/// `struct xt_tcp` and `xt_udp`: the lowest and highest port of either side, and which are negated.
fn sides(info: &[u8], negated: u8) -> Option<Vec<Match>> {
    const SOURCE: u8 = 1;
    const DESTINATION: u8 = 2;
    if negated & !(SOURCE | DESTINATION) != 0 {
        return None;
    }
    let source = side(info, negated & SOURCE != 0, Condition::SourcePort)?;
    let destination = side(info.get(4..)?, negated & DESTINATION != 0, Condition::DestinationPort)?;
    Some(source.into_iter().chain(destination).collect())
}

/// The ports of one side, unless they may be any.
fn side(info: &[u8], negated: bool, condition: fn(PortRange) -> Condition) -> Option<Option<Match>> {
    let (lowest, highest) = (half(info, 0)?, half(info, 2)?);
    if (lowest, highest, negated) == (0, u16::MAX, false) {
        return Some(None);
    }
    let range = PortRange::new(Port::new(lowest)?, Port::new(highest)?)?;
    Some(Some(Match { negated, condition: condition(range) }))
}

/// `struct xt_multiport_v1`: which side, how many, the ports, which of them begin a range, and whether it is negated.
fn destination_ports(info: &[u8]) -> Option<Match> {
    const DESTINATION: u8 = 1;
    const MOST: usize = 15;
    let (&[side, count], rest) = info.split_first_chunk()?;
    let (ports, rest) = rest.split_at_checked(MOST * 2)?;
    let (begins_range, rest) = rest.split_at_checked(MOST)?;
    let count = usize::from(count);
    if side != DESTINATION || count > MOST {
        return None;
    }
    let port = |index: usize| Port::new(half(ports, index * 2)?);
    let mut ranges = Vec::new();
    let mut index = 0;
    while index < count {
        let last = index + usize::from(begins_range[index] != 0);
        ranges.push(PortRange::new(port(index)?, port(last)?)?);
        index = last + 1;
    }
    Some(Match { negated: *rest.first()? != 0, condition: Condition::DestinationPorts(ranges) })
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

/// `struct xt_mark_mtinfo1` and `xt_connmark_mtinfo1`: the mark, which of its bits count, and whether it is negated.
fn mark(info: &[u8], condition: fn(u32) -> Condition) -> Option<Match> {
    let (mark, mask, &negated) = (word(info, 0)?, word(info, 4)?, info.get(8)?);
    (mask == u32::MAX).then(|| Match { negated: negated != 0, condition: condition(mark) })
}

/// `struct xt_conntrack_mtinfo3`: addresses, times and ports, of which none may count, and the states.
fn connection_state(info: &[u8]) -> Option<Match> {
    const STATE: u16 = 1;
    const FLAGS: usize = 146;
    let (asked, negated, states) = (half(info, FLAGS)?, half(info, FLAGS + 2)?, half(info, FLAGS + 4)?);
    if asked != STATE || negated & !STATE != 0 {
        return None;
    }
    let condition = Condition::ConnectionState(ConnectionState::in_mask(states.into())?);
    Some(Match { negated: negated != 0, condition })
}

/// `struct nf_nat_range` of one range of ports and no addresses.
fn redirect(flags: u32, (lowest, highest): (u16, u16)) -> Option<Target> {
    const PORTS_GIVEN: u32 = 2;
    (flags == PORTS_GIVEN && lowest == highest).then(|| Port::new(lowest).map(Target::Redirect))?
}

/// `struct xt_connmark_tginfo1`: what to set, the bits of either mark that count, and what to do; in revision 2 there
/// stand direction and width of a shift before the latter.
fn connection_mark(info: &[u8], revision: u8) -> Option<Target> {
    const SAVE: u8 = 1;
    const RESTORE: u8 = 2;
    const MASKS_END: usize = 12;
    let rest = info.get(MASKS_END..)?;
    let (shift, &deed) =
        if revision == 1 { (&rest[..0], rest.first()?) } else { (rest.get(..2)?, rest.get(2)?) };
    if [word(info, 4)?, word(info, 8)?] != [u32::MAX; 2] || !is_zero(Some(shift)) {
        return None;
    }
    match deed {
        SAVE => Some(Target::SaveMark),
        RESTORE => Some(Target::RestoreMark),
        _ => None,
    }
}

/// `struct xt_tproxy_target_info_v1`: the bits of the mark, the mark, an address, which may not be given, and the port.
fn tproxy(info: &[u8]) -> Option<Target> {
    let (port, _) = network_halves(info, 24)?;
    (word(info, 0)? == u32::MAX && is_zero(info.get(8..24)))
        .then(|| Some(Target::Tproxy { port: Port::new(port)?, mark: word(info, 4)? }))?
}

/// `struct xt_ct_target_info` and `…_v1`: flags, the zone, and events, helpers and time-outs, which may not be given.
fn zone(info: &[u8]) -> Option<Target> {
    let nothing_else = is_zero(info.get(..2)) && is_zero(info.get(4..));
    nothing_else.then(|| half(info, 2).map(Target::Zone))?
}

/// Two ports, in the order of the network.
fn network_halves(info: &[u8], at: usize) -> Option<(u16, u16)> {
    let &[l0, l1, h0, h1] = info.get(at..at + 4)? else { return None };
    Some((u16::from_be_bytes([l0, l1]), u16::from_be_bytes([h0, h1])))
}
