//! Which rules stand where once every entry of a program is in place, each rule with the families it serves.

use crate::program::{Entry, Place, Program};
use crate::purpose::Purpose;
use crate::ruleset::{
    Chain, ChainName, Condition, Family, Match, Protocol, Rule, RuleSet, Table, TableName, Target,
};

use super::TABLES;

/// What our tables hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layout {
    /// The tables in the order they are written, also those without chains.
    pub tables: Vec<(TableName, Vec<InetChain>)>,
}

/// One chain of a table that serves both families.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InetChain {
    /// The chain's name, as iptables spells it.
    pub name: ChainName,
    /// The rules, first one first.
    pub rules: Vec<InetRule>,
}

/// One rule of a table that serves both families.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InetRule {
    /// The only family whose packets can meet the rule; none when those of both can.
    pub family: Option<Family>,
    /// The rule, its conditions in the order in which nftables writes them.
    pub rule: Rule,
}

/// A rule on its way to its place.
pub(super) struct Step<'p> {
    pub(super) chain: &'p ChainName,
    pub(super) place: Place,
    pub(super) rule: InetRule,
}

impl Layout {
    pub(super) fn of(program: &Program) -> Self {
        let tables = TABLES.iter().map(|&(table, _)| (table, chains(&steps(program, table)))).collect();
        Self { tables }
    }

    /// What packets of `family` can meet: the rules that serve it, in every chain there is.
    pub fn rule_set(&self, family: Family) -> RuleSet {
        let serving = |chain: &InetChain| Chain {
            name: chain.name.clone(),
            rules: chain
                .rules
                .iter()
                .filter(|rule| rule.serves(family))
                .map(|rule| rule.rule.clone())
                .collect(),
        };
        let filled = self.tables.iter().filter(|(_, chains)| !chains.is_empty());
        let tables =
            filled.map(|(name, chains)| (*name, Table { chains: chains.iter().map(serving).collect() }));
        RuleSet { family, tables: tables.collect() }
    }
}

impl InetRule {
    fn serves(&self, family: Family) -> bool {
        self.family.is_none_or(|only| only == family)
    }
}

/// The rules of `table` in order of emission: an IPv6 rule that says the same as an IPv4 one is that one.
pub(super) fn steps(program: &Program, table: TableName) -> Vec<Step<'_>> {
    let v4: Vec<_> = program.entries_of(Family::V4, table).collect();
    let said_already = |entry: &Entry| {
        entry.family == Family::V6
            && !names_an_address(entry)
            && v4.iter().any(|v4| v4.location == entry.location && v4.rule == entry.rule)
    };
    let in_table = program.entries.iter().filter(|entry| entry.location.table == table);
    let step = |entry: &'_ Entry| InetRule {
        family: names_an_address(entry).then_some(entry.family),
        rule: in_order(entry),
    };
    in_table
        .filter(|entry| !said_already(entry))
        .map(|entry| Step { chain: &entry.location.chain, place: entry.location.place, rule: step(entry) })
        .collect()
}

fn names_an_address(entry: &Entry) -> bool {
    let address = |m: &Match| matches!(m.condition, Condition::Source(_) | Condition::Destination(_));
    entry.rule.matches.iter().any(address) || matches!(entry.rule.target, Target::Tproxy { .. })
}

/// The rule as Istio writes it for nftables: invalid packets are dropped for TCP only, and the connection's state stands
/// in front of the ports.
fn in_order(entry: &Entry) -> Rule {
    let mut rule = entry.rule.clone();
    let asks_state = rule.matches.iter().any(|m| matches!(m.condition, Condition::ConnectionState(_)));
    if rule.purpose == Some(Purpose::DropInvalid) && asks_state {
        rule.matches.insert(0, Condition::Protocol(Protocol::Tcp).into());
    }
    // A stable sort: nothing else changes its place.
    rule.matches.sort_by_key(|m| asks_state && matches!(m.condition, Condition::DestinationPort(_)));
    rule
}

/// The chains with rules, those the kernel calls first.
fn chains(steps: &[Step<'_>]) -> Vec<InetChain> {
    let mut chains: Vec<InetChain> = Vec::new();
    for step in steps {
        let index = chains.iter().position(|chain| chain.name == *step.chain).unwrap_or_else(|| {
            chains.push(InetChain { name: step.chain.clone(), rules: Vec::new() });
            chains.len() - 1
        });
        let rules = &mut chains[index].rules;
        let index = match step.place {
            Place::Append => rules.len(),
            Place::Insert(place) => place.saturating_sub(1).min(rules.len()),
        };
        rules.insert(index, step.rule.clone());
    }
    chains.sort_by_key(|chain| !chain.name.is_built_in());
    chains
}
