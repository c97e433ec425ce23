//! One entry of a table: a rule, a policy, or the beginning of a chain (`struct ipt_entry`, `struct ip6t_entry`).

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{ACCEPT, DROP};
use crate::bytes::{INTERFACE_LENGTH, half, interface, prefix_length, text, word};
use crate::extension;
use crate::ruleset::{ChainName, Condition, Family, Match, Protocol, Rule, Target};
use crate::settings::Interface;

const RETURN: i32 = -5;

/// In front of a match's or target's own structure: its length, its name, its revision.
const HEADER: usize = 32;
/// The target that begins a chain of users, and that ends the table.
const BEGINNING: &str = "ERROR";

/// What of `invflags` is understood.
mod negated {
    pub(super) const IN_INTERFACE: u8 = 1;
    pub(super) const OUT_INTERFACE: u8 = 2;
    pub(super) const SOURCE: u8 = 8;
    pub(super) const DESTINATION: u8 = 0x10;
    pub(super) const PROTOCOL: u8 = 0x40;
    pub(super) const ALL: u8 = IN_INTERFACE | OUT_INTERFACE | SOURCE | DESTINATION | PROTOCOL;
}

/// Where things are in an entry of a family.
struct Places {
    address: usize,
    flags: usize,
    offsets: usize,
    matches: usize,
    /// The flag of `-g`, and the one that goes with a protocol.
    goto: u8,
    with_protocol: u8,
}

const fn places(family: Family) -> Places {
    match family {
        Family::V4 => Places { address: 4, flags: 82, offsets: 88, matches: 112, goto: 2, with_protocol: 0 },
        Family::V6 => {
            Places { address: 16, flags: 131, offsets: 140, matches: 168, goto: 4, with_protocol: 1 }
        }
    }
}

/// One entry.
pub(super) struct Entry<'e> {
    family: Family,
    /// Its place in the table.
    pub(super) at: usize,
    bytes: &'e [u8],
    target: usize,
}

/// A match or a target.
struct Extension<'e> {
    name: &'e str,
    revision: u8,
    info: &'e [u8],
}

impl<'e> Entry<'e> {
    /// All entries of a table; none when one does not end where the next begins.
    pub(super) fn list(family: Family, bytes: &'e [u8]) -> Option<Vec<Self>> {
        let places = places(family);
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..)?;
            let target = usize::from(half(rest, places.offsets)?);
            let next = usize::from(half(rest, places.offsets + 2)?);
            if target < places.matches || next < target + HEADER {
                return None;
            }
            entries.push(Self { family, at, bytes: rest.get(..next)?, target });
            at += next;
        }
        Some(entries)
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> usize {
        self.at + self.bytes.len()
    }

    /// The name of the chain that begins behind this entry, if one does.
    pub(super) fn chain_begun(&self) -> Option<&'e str> {
        let target = self.extension(self.target)?;
        (target.name == BEGINNING).then(|| text(target.info))?
    }

    /// The verdict, or the place that is jumped to.
    pub(super) fn verdict(&self) -> Option<i32> {
        let target = self.extension(self.target)?;
        target.name.is_empty().then(|| word(target.info, 0).map(u32::cast_signed))?
    }

    /// The rule, given where the chains of users begin; none when it leads nowhere.
    pub(super) fn rule(&self, chains: &HashMap<usize, ChainName>) -> Option<Rule> {
        let mut matches = self.header()?;
        let mut at = places(self.family).matches;
        while at < self.target {
            let found = self.extension(at)?;
            let Extension { name, revision, info } = found;
            let read = extension::conditions(name, revision, info);
            matches.extend(read.unwrap_or_else(|| vec![unread(&format!("-m {name}")).into()]));
            at += HEADER + info.len();
        }
        Some(Rule::new(matches, self.decision(chains)?))
    }

    fn decision(&self, chains: &HashMap<usize, ChainName>) -> Option<Target> {
        let Some(verdict) = self.verdict() else {
            let Extension { name, revision, info } = self.extension(self.target)?;
            let read = extension::target(name, revision, info, self.family);
            return Some(read.unwrap_or_else(|| Target::Other(format!("-j {name}"))));
        };
        Some(match verdict {
            ACCEPT => Target::Accept,
            DROP => Target::Drop,
            RETURN => Target::Return,
            place if usize::try_from(place) == Ok(self.end()) => Target::Continue,
            place => {
                let chain = chains.get(&usize::try_from(place).ok()?)?.clone();
                let goes = self.flags()? & places(self.family).goto != 0;
                if goes { Target::Other(format!("-g {chain}")) } else { Target::Jump(chain) }
            }
        })
    }

    fn flags(&self) -> Option<u8> {
        self.bytes.get(places(self.family).flags).copied()
    }

    /// The conditions that every entry has room for.
    fn header(&self) -> Option<Vec<Match>> {
        let places = places(self.family);
        let &[flags, contrary] = self.bytes.get(places.flags..places.flags + 2)? else { return None };
        let mut matches = Vec::new();
        if flags & !(places.goto | places.with_protocol) != 0 || contrary & !negated::ALL != 0 {
            matches.push(unread("flags").into());
        }
        let mut add = |bit: u8, condition: Option<Condition>| {
            let negated = contrary & bit != 0;
            let says_nothing = condition.is_none() && !negated;
            let condition = condition.unwrap_or_else(|| unread("any"));
            matches.extend((!says_nothing).then_some(Match { negated, condition }));
        };
        add(negated::SOURCE, self.net(0, Condition::Source)?);
        add(negated::DESTINATION, self.net(1, Condition::Destination)?);
        add(negated::IN_INTERFACE, self.interface(0, Condition::InInterface)?);
        add(negated::OUT_INTERFACE, self.interface(1, Condition::OutInterface)?);
        add(negated::PROTOCOL, self.protocol(flags & places.with_protocol == places.with_protocol)?);
        Some(matches)
    }

    /// The source or destination, unless it may be any.
    fn net(&self, side: usize, condition: fn(IpNet) -> Condition) -> Option<Option<Condition>> {
        let length = places(self.family).address;
        let (address, mask) = (self.field(0, side, length)?, self.field(0, side + 2, length)?);
        let address = match self.family {
            Family::V4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            Family::V6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        };
        let net = prefix_length(mask).and_then(|length| IpNet::new(address, length).ok());
        Some(match net {
            Some(net) if net.prefix_len() == 0 => None,
            Some(net) => Some(condition(net)),
            None => Some(unread(&format!("{address}/{mask:?}"))),
        })
    }

    /// The interface in or out, unless it may be any.
    fn interface(&self, side: usize, condition: fn(Interface) -> Condition) -> Option<Option<Condition>> {
        let from = places(self.family).address * 4;
        let (name, mask) =
            (self.field(from, side, INTERFACE_LENGTH)?, self.field(from, side + 2, INTERFACE_LENGTH)?);
        let counts = mask.iter().take_while(|byte| **byte == 0xff).count();
        let is_whole = mask[counts..].iter().all(|byte| *byte == 0);
        Some(match interface(&name[..counts]).filter(|_| is_whole) {
            None if is_whole && counts == 0 => None,
            None => Some(unread("interface")),
            Some(name) => Some(condition(name)),
        })
    }

    /// The transport protocol, unless it may be any. In IPv6 a flag says whether it counts.
    fn protocol(&self, counts: bool) -> Option<Option<Condition>> {
        let number = half(self.bytes, places(self.family).address * 4 + 4 * INTERFACE_LENGTH)?;
        Some(match number {
            0 => None,
            6 if counts => Some(Condition::Protocol(Protocol::Tcp)),
            17 if counts => Some(Condition::Protocol(Protocol::Udp)),
            number => Some(unread(&format!("-p {number}"))),
        })
    }

    /// One of several fields of the same length.
    fn field(&self, from: usize, number: usize, length: usize) -> Option<&'e [u8]> {
        self.bytes.get(from + number * length..from + (number + 1) * length)
    }

    fn extension(&self, at: usize) -> Option<Extension<'e>> {
        let length = usize::from(half(self.bytes, at)?);
        let bytes = self.bytes.get(at..at + length)?;
        let (header, info) = bytes.split_at_checked(HEADER)?;
        Some(Extension { name: text(&header[2..HEADER - 1])?, revision: header[HEADER - 1], info })
    }
}

/// A condition of which nothing is known but a word.
fn unread(word: &str) -> Condition {
    Condition::Other(word.to_owned())
}
