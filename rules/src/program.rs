//! The order in which rules are emitted, and the rule sets this order leads to.

use std::collections::BTreeMap;

use crate::ruleset::{Chain, ChainName, Condition, Family, Rule, RuleSet, Table, TableName, Target};

/// Rules in the order they are put in place. Order within a chain is what matters to packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    /// Every rule of both families, first one first.
    pub entries: Vec<Entry>,
    /// Whether there are IPv6 rules, and why not.
    pub ipv6: Ipv6,
}

/// Whether IPv6 rules are emitted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ipv6 {
    /// They are.
    On,
    /// They are not, for this reason.
    Off(String),
}

/// One rule and where it goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The address family.
    pub family: Family,
    /// The table and chain, and the place in it.
    pub location: RuleLocation,
    /// The rule.
    pub rule: Rule,
}

/// A place for a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleLocation {
    /// The table.
    pub table: TableName,
    /// The chain.
    pub chain: ChainName,
    /// Where in the chain.
    pub place: Place,
}

/// Where in a chain a rule goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Behind what is there.
    Append,
    /// So that it becomes the rule with this number, counted from 1.
    Insert(usize),
}

impl RuleLocation {
    /// The end of `chain` in `table`.
    pub fn append(table: TableName, chain: ChainName) -> Self {
        Self { table, chain, place: Place::Append }
    }

    /// Number `place` of `chain` in `table`.
    pub fn insert(table: TableName, chain: ChainName, place: usize) -> Self {
        Self { table, chain, place: Place::Insert(place) }
    }
}

impl Program {
    /// The entries of `family` in `table`, in order of emission.
    pub fn entries_of(&self, family: Family, table: TableName) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.family == family && entry.location.table == table)
    }

    /// The rules of `family` as they stand once every entry is in place.
    pub fn rule_set(&self, family: Family) -> RuleSet {
        let mut tables: BTreeMap<TableName, Table> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.family == family) {
            tables.entry(entry.location.table).or_default().place(entry);
        }
        for table in tables.values_mut() {
            table.declare_jump_targets();
        }
        RuleSet { family, tables }
    }
}

impl Table {
    fn place(&mut self, entry: &Entry) {
        let rules = &mut self.chain(&entry.location.chain).rules;
        let index = match entry.location.place {
            Place::Append => rules.len(),
            Place::Insert(place) => place.saturating_sub(1).min(rules.len()),
        };
        rules.insert(index, entry.rule.clone());
    }

    fn declare_jump_targets(&mut self) {
        let jumps = |rule: &Rule| match &rule.target {
            Target::Jump(chain) => Some(chain.clone()),
            _ => None,
        };
        let targets: Vec<_> =
            self.chains.iter().flat_map(|chain| chain.rules.iter().filter_map(jumps)).collect();
        for target in targets {
            self.chain(&target);
        }
    }

    fn chain(&mut self, name: &ChainName) -> &mut Chain {
        let index = self.chains.iter().position(|chain| chain.name == *name).unwrap_or_else(|| {
            self.chains.push(Chain { name: name.clone(), rules: Vec::new() });
            self.chains.len() - 1
        });
        &mut self.chains[index]
    }
}

/// The comment on rules of ours in built-in chains that do not lead to a chain of ours: what else would tell them apart?
pub const OWN_COMMENT: &str = "postern";

impl Entry {
    /// The rule at its spot, with our comment where the rule would not be known as ours otherwise.
    pub fn new(family: Family, location: RuleLocation, mut rule: Rule) -> Self {
        if location.chain.is_built_in() && !rule.jumps_to_own_chain() {
            rule.matches.push(Condition::Comment(OWN_COMMENT.to_owned()).into());
        }
        Self { family, location, rule }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(location: RuleLocation, port: u16) -> Entry {
        let port = crate::ports::Port::new(port).unwrap();
        Entry::new(Family::V4, location, Rule::new([], Target::Redirect(port)))
    }

    #[test]
    fn inserts_at_one_stack_up_in_reverse() {
        let first = || RuleLocation::insert(TableName::Nat, ChainName::PREROUTING, 1);
        let last = || RuleLocation::append(TableName::Nat, ChainName::PREROUTING);
        let entries = vec![entry(last(), 1), entry(first(), 2), entry(first(), 3), entry(last(), 4)];
        let program = Program { entries, ipv6: Ipv6::On };
        let rules = program.rule_set(Family::V4);
        let ports: Vec<_> =
            rules.rules(TableName::Nat, &ChainName::PREROUTING).iter().map(|rule| &rule.target).collect();
        let numbers: Vec<_> = ports
            .iter()
            .map(|target| match target {
                Target::Redirect(port) => port.number(),
                _ => 0,
            })
            .collect();
        assert_eq!(numbers, [3, 2, 1, 4]);
    }

    #[test]
    fn a_chain_only_jumped_to_is_declared_last() {
        let jump = |from, to| {
            Entry::new(
                Family::V4,
                RuleLocation::append(TableName::Nat, from),
                Rule::new([], Target::Jump(to)),
            )
        };
        let entries =
            vec![jump(ChainName::OUTPUT, ChainName::OUTBOUND), jump(ChainName::INBOUND, ChainName::DROP)];
        let rules = Program { entries, ipv6: Ipv6::On }.rule_set(Family::V4);
        let names: Vec<_> =
            rules.tables[&TableName::Nat].chains.iter().map(|chain| chain.name.as_str()).collect();
        assert_eq!(names, ["OUTPUT", "ISTIO_INBOUND", "ISTIO_OUTPUT", "ISTIO_DROP"]);
    }

    #[test]
    fn only_rules_that_cannot_be_known_otherwise_carry_the_comment() {
        let in_own = entry(RuleLocation::append(TableName::Nat, ChainName::INBOUND), 1);
        let in_built_in = entry(RuleLocation::append(TableName::Nat, ChainName::OUTPUT), 1);
        assert!(!in_own.rule.has_comment(OWN_COMMENT) && in_built_in.rule.has_comment(OWN_COMMENT));
    }
}
