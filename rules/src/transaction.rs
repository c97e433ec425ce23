//! Restore documents that turn what the kernel holds into what is wanted, without touching anything of others.
//!
//! One document per family, one COMMIT per table and step: a table changes in one step, so no packet ever sees half a
//! table, and the steps are such that none ever sees a mixture of two sets of rules.

use crate::parse::{Found, FoundChain, FoundRule, FoundTable};
use crate::program::Program;
use crate::render;
use crate::ruleset::{Chain, ChainName, Family, RuleSet, Table, TableName};
use crate::transition::{Content, steps};

/// Puts `family`'s rules of `program` in place of whatever is ours in `found`.
pub fn replace(program: &Program, family: Family, found: &Found) -> String {
    let wanted = program.rule_set(family);
    change(found, &wanted, &wanted, |table| program.entries_of(family, table).map(render::command).collect())
}

/// Takes away whatever is ours in `found`. Empty when there is nothing.
pub fn remove(found: &Found) -> String {
    let nothing = RuleSet::empty(found.family);
    change(found, &nothing, &nothing, |_| Vec::new())
}

/// Takes away whatever is ours in `now`, and puts back what was ours in `before`, each rule where it stood.
/// `program` tells which rules of built-in chains were planned.
pub fn revert(program: &Program, now: &Found, before: &Found) -> String {
    let planned = program.rule_set(now.family);
    change(now, &own(before, &planned), &planned, |table| {
        let was = before.tables.get(&table).map_or(&[][..], |table| &table.chains);
        was.iter().flat_map(|chain| put_back(&planned, table, chain)).collect()
    })
}

/// The document that makes `wanted` of what is ours in `found`; `add` says how the rules of a table are added.
/// `planned` tells which rules of built-in chains are ours.
fn change(
    found: &Found,
    wanted: &RuleSet,
    planned: &RuleSet,
    add: impl Fn(TableName) -> Vec<String>,
) -> String {
    let mut text = String::new();
    let mut standing = found.tables.clone();
    for step in steps(&own(found, planned), wanted) {
        let table = step.table;
        let existing = standing.get(&table);
        match step.content {
            Content::Wanted => {
                let chains = wanted.tables.get(&table).map_or_else(Vec::new, own_chains);
                section(&mut text, table, existing, planned, chains, add(table));
            }
            Content::Both(both) => {
                section(&mut text, table, existing, planned, own_chains(&both), appended(&both));
                standing.insert(table, FoundTable::holding(&both));
            }
        }
    }
    text
}

/// What is ours in `found`, by itself.
fn own(found: &Found, planned: &RuleSet) -> RuleSet {
    let own_part = |table: TableName, chain: &FoundChain| Chain {
        name: chain.name.clone(),
        rules: own_rules(planned, table, chain).map(|(_, found)| found.rule.clone()).collect(),
    };
    let has_some = |chain: &Chain| chain.name.is_own() || !chain.rules.is_empty();
    let tables = found.tables.iter().map(|(name, table)| {
        let chains = table.chains.iter().map(|chain| own_part(*name, chain)).filter(has_some).collect();
        (*name, Table { chains })
    });
    let tables = tables.filter(|(_, table)| !table.chains.is_empty()).collect();
    RuleSet { family: found.family, tables }
}

/// The rules of a chain that are ours, with their place in it.
fn own_rules<'f>(
    planned: &RuleSet,
    table: TableName,
    chain: &'f FoundChain,
) -> impl Iterator<Item = (usize, &'f FoundRule)> {
    let planned = crate::diff::planned(planned, table, &chain.name);
    chain.rules.iter().enumerate().filter(move |(_, found)| found.is_own(&chain.name, &planned))
}

/// One table of a transaction: create or empty `chains`, delete stale rules, add rules, delete chains left over.
fn section(
    text: &mut String,
    table: TableName,
    found: Option<&FoundTable>,
    planned: &RuleSet,
    chains: Vec<ChainName>,
    add: Vec<String>,
) {
    let existing = found.map_or(&[][..], |table| &table.chains);
    let left_over: Vec<_> = existing
        .iter()
        .map(|chain| &chain.name)
        .filter(|name| name.is_own() && !chains.contains(name))
        .collect();
    let mut lines: Vec<_> = chains.iter().map(render::declaration).collect();
    lines.extend(existing.iter().flat_map(|chain| deletions(planned, table, chain)));
    lines.extend(left_over.iter().map(|name| format!("-F {name}")));
    lines.extend(add);
    lines.extend(left_over.iter().map(|name| format!("-X {name}")));
    if !lines.is_empty() {
        render::section(text, table, lines.into_iter());
    }
}

/// Deletes our rules from a chain that is not ours, in the words in which they were found.
fn deletions(planned: &RuleSet, table: TableName, chain: &FoundChain) -> Vec<String> {
    if chain.name.is_own() {
        return Vec::new();
    }
    let own = own_rules(planned, table, chain);
    own.map(|(_, found)| format!("-D {} {}", chain.name, found.text).trim_end().to_owned()).collect()
}

/// Adds the rules of ours again that `chain` had, each at its old number.
fn put_back(planned: &RuleSet, table: TableName, chain: &FoundChain) -> Vec<String> {
    let own = own_rules(planned, table, chain);
    own.map(|(index, found)| format!("-I {} {} {}", chain.name, index + 1, found.text).trim_end().to_owned())
        .collect()
}

/// Adds the rules of a table, each behind the one before it.
fn appended(table: &Table) -> Vec<String> {
    let rules = table.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (&chain.name, rule)));
    rules.map(|(name, rule)| format!("-A {name} {}", render::rule(rule)).trim_end().to_owned()).collect()
}

fn own_chains(table: &Table) -> Vec<ChainName> {
    table.chains.iter().map(|chain| chain.name.clone()).filter(|name| !name.is_built_in()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::program::{Ipv6, RuleLocation};
    use crate::ruleset::{Rule, Target};

    const BEFORE: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OLD - [0:0]\n-A OUTPUT -d 10.0.0.1/32 -j ACCEPT\n\
        -A OUTPUT -j ISTIO_OLD\n-A OUTPUT -m comment --comment \"ISTIO_OUTPUT\" -j RETURN\n-A ISTIO_OLD -j RETURN\nCOMMIT\n";

    fn program() -> Program {
        let jump = Rule::new([], Target::Jump(ChainName::OUTBOUND));
        let location = RuleLocation::append(TableName::Nat, ChainName::OUTPUT);
        let entries = vec![crate::program::Entry::new(Family::V4, location, jump)];
        Program { entries, ipv6: Ipv6::Off(String::new()) }
    }

    #[test]
    fn replacing_names_ours_in_the_words_found_and_nothing_of_others() {
        let found = parse(Family::V4, BEFORE).unwrap();
        assert_eq!(
            replace(&program(), Family::V4, &found),
            "*nat\n:ISTIO_OUTPUT - [0:0]\n-D OUTPUT -j ISTIO_OLD\n-F ISTIO_OLD\n-A OUTPUT -j ISTIO_OUTPUT\n-X ISTIO_OLD\nCOMMIT\n"
        );
    }

    #[test]
    fn removing_leaves_the_rules_of_others() {
        let found = parse(Family::V4, BEFORE).unwrap();
        assert_eq!(remove(&found), "*nat\n-D OUTPUT -j ISTIO_OLD\n-F ISTIO_OLD\n-X ISTIO_OLD\nCOMMIT\n");
        let nothing = parse(Family::V4, "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACCEPT\nCOMMIT\n").unwrap();
        assert_eq!(remove(&nothing), "");
    }

    #[test]
    fn reverting_puts_each_rule_where_it_stood() {
        let before = parse(Family::V4, BEFORE).unwrap();
        let now = "*nat\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -d 10.0.0.1/32 -j ACCEPT\n\
            -A OUTPUT -m comment --comment \"ISTIO_OUTPUT\" -j RETURN\n-A OUTPUT -j ISTIO_OUTPUT\nCOMMIT\n";
        let now = parse(Family::V4, now).unwrap();
        assert_eq!(
            revert(&program(), &now, &before),
            "*nat\n:ISTIO_OLD - [0:0]\n-D OUTPUT -j ISTIO_OUTPUT\n-F ISTIO_OUTPUT\n-I OUTPUT 2 -j ISTIO_OLD\n\
             -I ISTIO_OLD 1 -j RETURN\n-X ISTIO_OUTPUT\nCOMMIT\n"
        );
    }
}
