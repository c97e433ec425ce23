//! Compares the rules wanted with those found: canonical, ordered, ours only.

use std::collections::BTreeSet;
use std::fmt;

use crate::parse::{Found, FoundRule};
use crate::render::Dialect;
use crate::ruleset::{ChainName, Family, Rule, RuleSet, TableName};

/// Where wanted and found rules of one family differ. Empty when they do the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The address family.
    pub family: Family,
    /// The words in which the rules are told.
    pub dialect: Dialect,
    /// Only chains that differ.
    pub chains: Vec<ChainDifference>,
}

impl Difference {
    /// Whether wanted and found do the same.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

/// One chain that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChainDifference {
    /// The table.
    pub table: TableName,
    /// The chain.
    pub chain: ChainName,
    /// Every rule of ours in the chain, wanted or found, in order. None when an empty chain is missing or left over.
    pub lines: Vec<Line>,
    /// Whether the chain itself exists.
    pub state: ChainState,
}

/// Whether a chain that differs is there at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChainState {
    /// Wanted and found.
    Both,
    /// Wanted, not found.
    Missing,
    /// Found, not wanted.
    Surplus,
}

/// One rule of a chain that differs, in the words of the program that holds the rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// Wanted and found.
    Same(String),
    /// Wanted, not found here.
    Missing(String),
    /// Found, not wanted here.
    Surplus(String),
}

/// Compares chain by chain. In chains of ours the whole list counts; in built-in chains our rules must be there exactly
/// once, in the wanted order, whatever stands between them.
pub fn compare(wanted: &RuleSet, found: &Found) -> Difference {
    let chains = chains(wanted, found).into_iter();
    let chains = chains.filter_map(|(table, chain)| compare_chain(wanted, found, table, chain)).collect();
    Difference { family: wanted.family, dialect: found.dialect, chains }
}

/// The rules of `chain` that are ours, in order.
pub fn own_rules<'f>(
    found: &'f Found,
    wanted: &RuleSet,
    table: TableName,
    chain: &ChainName,
) -> Vec<&'f FoundRule> {
    let planned = planned(wanted, table, chain);
    let rules = found.chain(table, chain).map_or(&[][..], |chain| &chain.rules);
    rules.iter().filter(|rule| rule.is_own(chain, &planned)).collect()
}

/// The wanted rules of a built-in chain, canonical: a rule found there that equals one of them is ours.
pub(crate) fn planned(wanted: &RuleSet, table: TableName, chain: &ChainName) -> Vec<Rule> {
    if !chain.is_built_in() {
        return Vec::new();
    }
    wanted.rules(table, chain).iter().map(Rule::canonical).collect()
}

/// Every chain in which something of ours is wanted or could be found.
fn chains(wanted: &RuleSet, found: &Found) -> BTreeSet<(TableName, ChainName)> {
    let wanted = wanted
        .tables
        .iter()
        .flat_map(|(table, contents)| contents.chains.iter().map(move |chain| (*table, chain.name.clone())));
    let found = found
        .tables
        .iter()
        .flat_map(|(table, contents)| contents.chains.iter().map(move |chain| (*table, chain.name.clone())));
    wanted.chain(found).collect()
}

fn compare_chain(
    wanted: &RuleSet,
    found: &Found,
    table: TableName,
    chain: ChainName,
) -> Option<ChainDifference> {
    let planned = wanted.rules(table, &chain);
    let own = own_rules(found, wanted, table, &chain);
    let state = state(wanted, found, table, &chain);
    let canonical: Vec<_> = planned.iter().map(Rule::canonical).collect();
    let standing: Vec<_> = own.iter().map(|found| found.rule.canonical()).collect();
    if canonical == standing && state == ChainState::Both {
        return None;
    }
    let wanted_text = |index: usize| found.dialect.rule(&planned[index], found.family);
    let found_text = |index: usize| own[index].text.clone();
    let lines = align(&canonical, &standing).into_iter();
    let lines = lines
        .map(|step| match step {
            Step::Both(index) => Line::Same(wanted_text(index)),
            Step::Wanted(index) => Line::Missing(wanted_text(index)),
            Step::Found(index) => Line::Surplus(found_text(index)),
        })
        .collect();
    Some(ChainDifference { table, chain, lines, state })
}

fn state(wanted: &RuleSet, found: &Found, table: TableName, chain: &ChainName) -> ChainState {
    if !chain.is_own() {
        return ChainState::Both;
    }
    let chains = wanted.tables.get(&table).map_or(&[][..], |table| &table.chains);
    match (chains.iter().any(|wanted| wanted.name == *chain), found.chain(table, chain).is_some()) {
        (true, false) => ChainState::Missing,
        (false, true) => ChainState::Surplus,
        _ => ChainState::Both,
    }
}

enum Step {
    Both(usize),
    Wanted(usize),
    Found(usize),
}

/// The shortest way from `wanted` to `found`, by their longest common subsequence.
fn align(wanted: &[Rule], found: &[Rule]) -> Vec<Step> {
    let lengths = common_lengths(wanted, found);
    let (mut w, mut f) = (0, 0);
    let mut steps = Vec::new();
    while w < wanted.len() || f < found.len() {
        if w < wanted.len() && f < found.len() && wanted[w] == found[f] {
            steps.push(Step::Both(w));
            (w, f) = (w + 1, f + 1);
        } else if f == found.len() || (w < wanted.len() && lengths[w + 1][f] >= lengths[w][f + 1]) {
            steps.push(Step::Wanted(w));
            w += 1;
        } else {
            steps.push(Step::Found(f));
            f += 1;
        }
    }
    steps
}

/// How many rules the rests of both lists have in common, for every pair of rests.
fn common_lengths(wanted: &[Rule], found: &[Rule]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; found.len() + 1]; wanted.len() + 1];
    for w in (0..wanted.len()).rev() {
        for f in (0..found.len()).rev() {
            lengths[w][f] = if wanted[w] == found[f] {
                lengths[w + 1][f + 1] + 1
            } else {
                lengths[w + 1][f].max(lengths[w][f + 1])
            };
        }
    }
    lengths
}

impl fmt::Display for Difference {
    /// One line per rule: `-` wanted but not found, `+` found but not wanted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chain in &self.chains {
            let remark = match chain.state {
                ChainState::Both => "",
                ChainState::Missing => " (chain missing)",
                ChainState::Surplus => " (chain left over)",
            };
            let place = self.dialect.place(chain.table, &chain.chain);
            writeln!(f, "{} {place}{remark}", self.family)?;
            for line in &chain.lines {
                match line {
                    Line::Same(text) => writeln!(f, "    {text}")?,
                    Line::Missing(text) => writeln!(f, "  - {text}")?,
                    Line::Surplus(text) => writeln!(f, "  + {text}")?,
                }
            }
        }
        Ok(())
    }
}
