//! Reads what iptables-save prints: our chains as typed rules, everything else kept as it was written, in place.

use std::collections::BTreeMap;
use std::fmt;

use crate::program::OWN_COMMENT;
use crate::render::{self, Dialect};
use crate::ruleset::{Chain, ChainName, Family, Rule, RuleSet, Table, TableName, Target};

mod rule;
mod words;

pub use rule::rule;

/// What the kernel holds for one address family, ours and that of others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The address family.
    pub family: Family,
    /// The words in which the rules are told.
    pub dialect: Dialect,
    /// Every table that exists.
    pub tables: BTreeMap<TableName, FoundTable>,
}

/// One table as found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FoundTable {
    /// The chains, in the order they were listed.
    pub chains: Vec<FoundChain>,
}

/// One chain as found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundChain {
    /// The chain's name.
    pub name: ChainName,
    /// What happens at its end, for a built-in chain: `ACCEPT` or `DROP`.
    pub policy: Option<String>,
    /// The rules, first one first.
    pub rules: Vec<FoundRule>,
}

/// One rule as found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundRule {
    /// The rule as written, without its chain.
    pub text: String,
    /// The rule as far as it can be read.
    pub rule: Rule,
    /// How often it was met, if asked for.
    pub counters: Option<Counters>,
}

/// How often a rule was met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A line that is no output of iptables-save.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unreadable line {number} in the output of iptables-save: `{}`: expected {expected}", .text.escape_debug())]
pub struct ParseError {
    /// The line's number, counted from 1.
    pub number: usize,
    /// The line.
    pub text: String,
    /// What was expected.
    pub expected: &'static str,
}

/// Reads the output of iptables-save or ip6tables-save, with or without counters.
///
/// # Errors
/// The first line that is no table, chain, rule, comment or `COMMIT`.
pub fn parse(family: Family, text: &str) -> Result<Found, ParseError> {
    let mut parser = Parser { found: Found::nothing(family), table: None };
    for (index, line) in text.lines().enumerate() {
        parser.line(line.trim()).map_err(|expected| ParseError {
            number: index + 1,
            text: line.to_owned(),
            expected,
        })?;
    }
    Ok(parser.found)
}

impl Found {
    /// A family in which the kernel holds nothing.
    pub fn nothing(family: Family) -> Self {
        Self { family, dialect: Dialect::Iptables, tables: BTreeMap::new() }
    }

    /// A family in which the kernel holds just these rules, as iptables would tell them.
    pub fn holding(rules: &RuleSet) -> Self {
        let table = FoundTable::holding;
        let tables = rules.tables.iter().map(|(name, contents)| (*name, table(contents))).collect();
        Self { tables, ..Self::nothing(rules.family) }
    }

    /// Whether a chain of ours exists, or a rule that is ours by itself.
    pub fn holds_own(&self) -> bool {
        self.tables.values().flat_map(|table| &table.chains).any(|chain| {
            chain.name.is_own() || chain.rules.iter().any(|found| found.is_own(&chain.name, &[]))
        })
    }

    /// Whether a chain of ours exists.
    pub fn holds_own_chain(&self) -> bool {
        self.tables.values().flat_map(|table| &table.chains).any(|chain| chain.name.is_own())
    }

    /// Everything found as one rule set, for reading by the simulator.
    pub fn rule_set(&self) -> RuleSet {
        let rules = |chain: &FoundChain| chain.rules.iter().map(|found| found.rule.clone()).collect();
        let chain = |chain: &FoundChain| Chain { name: chain.name.clone(), rules: rules(chain) };
        let table = |table: &FoundTable| Table { chains: table.chains.iter().map(chain).collect() };
        let tables = self.tables.iter().map(|(name, contents)| (*name, table(contents))).collect();
        RuleSet { family: self.family, tables }
    }

    /// The chain `name` of `table`.
    pub fn chain(&self, table: TableName, name: &ChainName) -> Option<&FoundChain> {
        self.tables.get(&table)?.chains.iter().find(|chain| chain.name == *name)
    }
}

impl fmt::Display for Found {
    /// The text it was read from, but for counters and remarks; for nftables, its chains one after the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dialect == Dialect::Nft {
            return self.fmt_chains(f);
        }
        for (name, table) in &self.tables {
            writeln!(f, "*{name}")?;
            for chain in &table.chains {
                writeln!(f, ":{} {} [0:0]", chain.name, chain.policy.as_deref().unwrap_or("-"))?;
            }
            for chain in &table.chains {
                for rule in &chain.rules {
                    writeln!(f, "-A {} {}", chain.name, rule.text)?;
                }
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}

impl Found {
    fn fmt_chains(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains =
            self.tables.iter().flat_map(|(name, table)| table.chains.iter().map(move |chain| (*name, chain)));
        for (table, chain) in chains {
            writeln!(f, "{}", self.dialect.place(table, &chain.name))?;
            for rule in &chain.rules {
                writeln!(f, "    {}", rule.text)?;
            }
        }
        Ok(())
    }
}

impl FoundRule {
    /// Whether the rule is ours: in a chain of ours, leading to one, carrying our comment, or one of `planned`
    /// (canonical) in a built-in chain.
    pub fn is_own(&self, chain: &ChainName, planned: &[Rule]) -> bool {
        chain.is_own()
            || self.rule.jumps_to_own_chain()
            || self.rule.has_comment(OWN_COMMENT)
            || (!planned.is_empty() && planned.contains(&self.rule.canonical()))
    }
}

struct Parser {
    found: Found,
    table: Option<TableName>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('*') {
            return self.begin(name);
        }
        if line == "COMMIT" {
            self.table = None;
            return Ok(());
        }
        let name = self.table.ok_or("a table, as in `*nat`, before this line")?;
        let table = self.found.tables.entry(name).or_default();
        match line.strip_prefix(':') {
            Some(declaration) => table.declare(declaration),
            None => table.append(line),
        }
    }

    fn begin(&mut self, name: &str) -> Result<(), &'static str> {
        let table = TableName::named(name).ok_or("one of the tables filter, mangle, nat, raw, security")?;
        self.found.tables.entry(table).or_default();
        self.table = Some(table);
        Ok(())
    }
}

impl FoundTable {
    /// A table that holds just these rules, as iptables would tell them.
    pub(crate) fn holding(table: &Table) -> Self {
        let found = |rule: &Rule| FoundRule { text: render::rule(rule), rule: rule.clone(), counters: None };
        let chain = |chain: &Chain| FoundChain {
            name: chain.name.clone(),
            policy: chain.name.is_built_in().then(|| "ACCEPT".to_owned()),
            rules: chain.rules.iter().map(found).collect(),
        };
        Self { chains: table.chains.iter().map(chain).collect() }
    }

    fn declare(&mut self, declaration: &str) -> Result<(), &'static str> {
        let mut words = declaration.split_whitespace();
        let (Some(name), Some(policy)) = (words.next(), words.next()) else {
            return Err("a chain and its policy, as in `:OUTPUT ACCEPT [0:0]`");
        };
        let policy = (policy != "-").then(|| policy.to_owned());
        self.chains.push(FoundChain { name: ChainName::new(name), policy, rules: Vec::new() });
        Ok(())
    }

    fn append(&mut self, line: &str) -> Result<(), &'static str> {
        const EXPECTED: &str = "a rule, as in `-A OUTPUT -j ACCEPT`";
        let (counters, line) = counters(line).ok_or(EXPECTED)?;
        let rest = line.strip_prefix("-A ").ok_or(EXPECTED)?;
        let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut rule = rule(text);
        self.tell_chain_from_extension(&mut rule);
        let found = self.chains.iter_mut().find(|found| found.name.as_str() == chain);
        let found = found.ok_or("a rule of a chain declared before")?;
        found.rules.push(FoundRule { text: text.to_owned(), rule, counters });
        Ok(())
    }

    /// Chains are declared before any rule, so a target that is declared is a chain.
    fn tell_chain_from_extension(&self, rule: &mut Rule) {
        let Target::Other(text) = &rule.target else { return };
        let Some(name) = text.strip_prefix("-j ") else { return };
        if self.chains.iter().any(|chain| chain.name.as_str() == name) {
            rule.target = Target::Jump(ChainName::new(name));
        }
    }
}

/// The counters in front of a rule, as in `[12:3400] -A OUTPUT …`, and the rest of the line.
fn counters(line: &str) -> Option<(Option<Counters>, &str)> {
    let Some(bracket) = line.strip_prefix('[') else { return Some((None, line)) };
    let (inside, rest) = bracket.split_once("] ")?;
    let (packets, bytes) = inside.split_once(':')?;
    Some((Some(Counters { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? }), rest))
}

#[cfg(test)]
mod tests;
