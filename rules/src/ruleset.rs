//! Rules as data: tables, chains, rules, matches and targets of netfilter, typed and ordered, per address family.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use crate::ports::{Port, PortRange};
use crate::purpose::Purpose;
use crate::settings::{Interface, Owner};

pub use connection_state::ConnectionState;

mod connection_state;

/// The rules of one address family, chain by chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleSet {
    /// The address family.
    pub family: Family,
    /// Only tables that hold something.
    pub tables: BTreeMap<TableName, Table>,
}

impl RuleSet {
    /// A family without rules.
    pub fn empty(family: Family) -> Self {
        Self { family, tables: BTreeMap::new() }
    }

    /// The rules of `chain` in `table`, in order; none when there is no such chain.
    pub fn rules(&self, table: TableName, chain: &ChainName) -> &[Rule] {
        self.tables
            .get(&table)
            .and_then(|table| table.chains.iter().find(|found| found.name == *chain))
            .map_or(&[], |chain| &chain.rules)
    }
}

/// One table: its chains in the order of their first rule, then those that are only jumped to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    /// The chains.
    pub chains: Vec<Chain>,
}

/// One chain and its rules in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chain {
    /// The chain's name.
    pub name: ChainName,
    /// The rules, first one first.
    pub rules: Vec<Rule>,
}

/// One rule: all matches must hold for the target to apply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The conditions, in the order they are written.
    pub matches: Vec<Match>,
    /// What happens to the packet.
    pub target: Target,
    /// What the rule is for, when it is one of ours.
    pub purpose: Option<Purpose>,
}

impl Rule {
    /// A rule with these conditions and this target.
    pub fn new(matches: impl Into<Vec<Match>>, target: Target) -> Self {
        Self { matches: matches.into(), target, purpose: None }
    }

    /// The same rule, with what it is for.
    #[must_use]
    pub fn because(self, purpose: Purpose) -> Self {
        Self { purpose: Some(purpose), ..self }
    }

    /// The rule without what makes no difference to a packet: order of conditions and ports, comments, host bits,
    /// purpose.
    ///
    /// Two rules with the same canonical form do the same; the kernel returns rules in this sense, not as written.
    #[must_use]
    pub fn canonical(&self) -> Self {
        let mut matches: Vec<_> = self.matches.iter().filter_map(Match::canonical).collect();
        matches.sort();
        Self { matches, target: self.target.clone(), purpose: None }
    }

    /// Whether the rule carries this comment.
    pub fn has_comment(&self, comment: &str) -> bool {
        self.matches.iter().any(|m| matches!(&m.condition, Condition::Comment(text) if text == comment))
    }

    /// Whether the rule hands packets to a chain of ours.
    pub fn jumps_to_own_chain(&self) -> bool {
        matches!(&self.target, Target::Jump(chain) if chain.is_own())
    }
}

/// A condition, or its contrary.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Match {
    /// Whether the contrary is asked for.
    pub negated: bool,
    /// The condition.
    pub condition: Condition,
}

impl Match {
    fn canonical(&self) -> Option<Self> {
        let condition = match &self.condition {
            Condition::Comment(_) => return None,
            // The kernel drops a match that every address meets.
            Condition::Source(net) | Condition::Destination(net)
                if net.prefix_len() == 0 && !self.negated =>
            {
                return None;
            }
            Condition::Source(net) => Condition::Source(net.trunc()),
            Condition::Destination(net) => Condition::Destination(net.trunc()),
            Condition::DestinationPorts(ports) => {
                let mut ports = ports.clone();
                ports.sort_unstable();
                Condition::DestinationPorts(ports)
            }
            other => other.clone(),
        };
        Some(Self { negated: self.negated, condition })
    }
}

impl std::ops::Not for Match {
    type Output = Self;

    fn not(self) -> Self {
        Self { negated: !self.negated, ..self }
    }
}

impl From<Condition> for Match {
    fn from(condition: Condition) -> Self {
        Self { negated: false, condition }
    }
}

/// One condition on a packet.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Condition {
    /// `-i`: it came in by this interface.
    InInterface(Interface),
    /// `-o`: it goes out by this interface.
    OutInterface(Interface),
    /// `-s`: its source address lies here.
    Source(IpNet),
    /// `-d`: its destination address lies here.
    Destination(IpNet),
    /// `-p`: it is of this transport protocol.
    Protocol(Protocol),
    /// `--sport`: its source port lies here.
    SourcePort(PortRange),
    /// `--dport`: its destination port lies here.
    DestinationPort(PortRange),
    /// `-m multiport --dports`: its destination port lies in one of these.
    DestinationPorts(Vec<PortRange>),
    /// `-m owner --uid-owner`: a process of this user sent it.
    User(Owner),
    /// `-m owner --gid-owner`: a process of this group sent it.
    Group(Owner),
    /// `-m mark`: the packet has this mark.
    Mark(u32),
    /// `-m connmark`: its connection has this mark.
    ConnectionMark(u32),
    /// `-m conntrack --ctstate`: its connection is in one of these states.
    ConnectionState(BTreeSet<ConnectionState>),
    /// `-m comment`: always true.
    Comment(String),
    /// Options of a foreign rule that this crate does not read, as written.
    Other(String),
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What a rule does with a packet that meets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Nothing but counting.
    Continue,
    /// Back to the calling chain; from a built-in chain, its policy.
    Return,
    /// Through; no further chain of this table is asked.
    Accept,
    /// Away.
    Drop,
    /// On to this chain, and back if it does not decide.
    Jump(ChainName),
    /// To this local port; the original destination is kept by connection tracking.
    Redirect(Port),
    /// The packet gets this mark; the walk goes on.
    SetMark(u32),
    /// To the transparent socket on this port; the packet gets this mark.
    Tproxy {
        /// The port of the proxy.
        port: Port,
        /// The mark.
        mark: u32,
    },
    /// The connection gets the packet's mark; the walk goes on.
    SaveMark,
    /// The packet gets its connection's mark; the walk goes on.
    RestoreMark,
    /// The connection is tracked in this zone; the walk goes on.
    Zone(u16),
    /// A target of a foreign rule that this crate does not read, as written.
    Other(String),
}

/// An address family of netfilter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first, as everything is emitted.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Whether `net` is of this family.
    pub fn has(self, net: &IpNet) -> bool {
        matches!((self, net), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A table of netfilter, in the order documents list them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TableName {
    /// Packet filtering.
    Filter,
    /// Packet alteration.
    Mangle,
    /// Address translation; sees the first packet of a connection only.
    Nat,
    /// Before connection tracking.
    Raw,
    /// Mandatory access control.
    Security,
}

impl TableName {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Filter, "filter"),
        (Self::Mangle, "mangle"),
        (Self::Nat, "nat"),
        (Self::Raw, "raw"),
        (Self::Security, "security"),
    ];

    /// The table with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, text)| *text == name).map(|(table, _)| *table)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(table, _)| table == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// The name of a chain.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChainName(Cow<'static, str>);

impl ChainName {
    /// Built in: packets that come in.
    pub const PREROUTING: Self = Self::constant("PREROUTING");
    /// Built in: packets that this machine sends.
    pub const OUTPUT: Self = Self::constant("OUTPUT");
    /// Inbound traffic: what to capture and what to leave alone.
    pub const INBOUND: Self = Self::constant("ISTIO_INBOUND");
    /// Outbound traffic: what to capture and what to leave alone.
    pub const OUTBOUND: Self = Self::constant("ISTIO_OUTPUT");
    /// To the outbound port of the proxy.
    pub const REDIRECT: Self = Self::constant("ISTIO_REDIRECT");
    /// To the inbound port of the proxy.
    pub const IN_REDIRECT: Self = Self::constant("ISTIO_IN_REDIRECT");
    /// DNS queries.
    pub const OUTBOUND_DNS: Self = Self::constant("ISTIO_OUTPUT_DNS");
    /// Packets of connections that TPROXY has captured already.
    pub const DIVERT: Self = Self::constant("ISTIO_DIVERT");
    /// To the transparent socket of the proxy.
    pub const TPROXY: Self = Self::constant("ISTIO_TPROXY");
    /// Packets that belong to no connection.
    pub const DROP: Self = Self::constant("ISTIO_DROP");

    /// The chain with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    const fn constant(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the kernel itself calls this chain.
    pub fn is_built_in(&self) -> bool {
        matches!(self.as_str(), "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING")
    }

    /// Whether the chain is ours by its name, whoever made it.
    pub fn is_own(&self) -> bool {
        self.0.starts_with("ISTIO_")
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(net: &str) -> Match {
        Condition::Destination(net.parse().unwrap()).into()
    }

    #[test]
    fn order_of_conditions_comments_and_host_bits_make_no_difference() {
        let tcp = Match::from(Condition::Protocol(Protocol::Tcp));
        let comment = Match::from(Condition::Comment("postern".to_owned()));
        let one = Rule::new([tcp.clone(), destination("10.1.2.3/8"), comment], Target::Return);
        let other = Rule::new([destination("10.0.0.0/8"), tcp], Target::Return);
        assert_eq!(one.canonical(), other.canonical());
    }

    #[test]
    fn every_address_is_no_condition_but_no_address_is_one() {
        let rule = |condition: Match| Rule::new([condition], Target::Return).canonical().matches.len();
        assert_eq!(rule(destination("0.0.0.0/0")), 0);
        assert_eq!(rule(!destination("0.0.0.0/0")), 1);
    }

    #[test]
    fn a_negation_makes_a_difference() {
        let rule = |condition: Match| Rule::new([condition], Target::Return).canonical();
        assert_ne!(rule(destination("10.0.0.0/8")), rule(!destination("10.0.0.0/8")));
    }
}
