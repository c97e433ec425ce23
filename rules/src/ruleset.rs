//! Rules as data: tables, chains, rules, matches and targets of netfilter, typed and ordered, per address family.

use std::collections::BTreeMap;

use crate::ports::Port;
use crate::purpose::Purpose;

pub use condition::{Condition, Match, Protocol};
pub use connection_state::ConnectionState;
pub use names::{ChainName, Family, TableName};

mod condition;
mod connection_state;
mod names;

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
