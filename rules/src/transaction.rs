//! Restore documents that turn what the kernel holds into what is wanted, without touching anything of others.
//!
//! One document per family, one COMMIT per table: a table changes in one step, so no packet ever sees half a table.
//! Between two tables packets can meet the new one and the old other, and do for good if the writer is killed there: the
//! order of the tables is such that traffic passes then, captured or not.

use std::collections::BTreeSet;

use crate::diff::planned;
use crate::parse::{Found, FoundChain, FoundTable};
use crate::program::Program;
use crate::render;
use crate::ruleset::{Chain, ChainName, Family, RuleSet, TableName};

/// Puts `family`'s rules of `program` in place of whatever is ours in `found`.
pub fn replace(program: &Program, family: Family, found: &Found) -> String {
    let wanted = program.rule_set(family);
    let mut text = String::new();
    let tables = wanted.tables.keys().chain(found.tables.keys()).copied().collect();
    for table in in_order(tables, &wanted) {
        let chains: Vec<_> = own_chains(&wanted, table);
        let add = program.entries_of(family, table).map(render::command).collect();
        change(&mut text, table, found.tables.get(&table), &wanted, chains, add);
    }
    text
}

/// Takes away whatever is ours in `found`. Empty when there is nothing.
pub fn remove(found: &Found) -> String {
    let nothing = RuleSet::empty(found.family);
    let mut text = String::new();
    for (table, contents) in &found.tables {
        change(&mut text, *table, Some(contents), &nothing, Vec::new(), Vec::new());
    }
    text
}

/// Takes away whatever is ours in `now`, and puts back what was ours in `before`, each rule where it stood.
/// `program` tells which rules of built-in chains were planned.
pub fn revert(program: &Program, now: &Found, before: &Found) -> String {
    let planned = program.rule_set(now.family);
    let mut text = String::new();
    let tables = now.tables.keys().chain(before.tables.keys()).copied().collect();
    for table in in_order(tables, &before.rule_set()) {
        let was = before.tables.get(&table).map_or(&[][..], |table| &table.chains);
        let chains = was.iter().map(|chain| chain.name.clone()).filter(ChainName::is_own).collect();
        let add = was.iter().flat_map(|chain| put_back(&planned, table, chain)).collect();
        change(&mut text, table, now.tables.get(&table), &planned, chains, add);
    }
    text
}

/// One table of a transaction: create or empty `chains`, delete stale rules, add rules, delete chains left over.
fn change(
    text: &mut String,
    table: TableName,
    found: Option<&FoundTable>,
    wanted: &RuleSet,
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
    lines.extend(existing.iter().flat_map(|chain| deletions(wanted, table, chain)));
    lines.extend(left_over.iter().map(|name| format!("-F {name}")));
    lines.extend(add);
    lines.extend(left_over.iter().map(|name| format!("-X {name}")));
    if !lines.is_empty() {
        render::section(text, table, lines.into_iter());
    }
}

/// Deletes our rules from a chain that is not ours, in the words in which they were found.
fn deletions(wanted: &RuleSet, table: TableName, chain: &FoundChain) -> Vec<String> {
    if chain.name.is_own() {
        return Vec::new();
    }
    let planned = planned(wanted, table, &chain.name);
    let own = chain.rules.iter().filter(|found| found.is_own(&chain.name, &planned));
    own.map(|found| format!("-D {} {}", chain.name, found.text).trim_end().to_owned()).collect()
}

/// Adds the rules of ours again that `chain` had, each at its old number.
fn put_back(wanted: &RuleSet, table: TableName, chain: &FoundChain) -> Vec<String> {
    let planned = planned(wanted, table, &chain.name);
    let numbered = chain.rules.iter().enumerate();
    let own = numbered.filter(|(_, found)| found.is_own(&chain.name, &planned));
    own.map(|(index, found)| format!("-I {} {} {}", chain.name, index + 1, found.text).trim_end().to_owned())
        .collect()
}

/// The order in which tables change on the way to `wanted`.
///
/// Zones of connection tracking come before DNS is redirected, and go after it: without them a query from a port that
/// was used before leads past the proxy. TPROXY comes after redirection has let go of inbound connections, and goes
/// before redirection takes them: a packet that meets both is dropped unless the proxy's socket is transparent.
fn in_order(tables: BTreeSet<TableName>, wanted: &RuleSet) -> Vec<TableName> {
    let captures_by_tproxy = !wanted.rules(TableName::Mangle, &ChainName::TPROXY).is_empty();
    let has_zones = !wanted.rules(TableName::Raw, &ChainName::OUTPUT).is_empty();
    let mut tables: Vec<_> = tables.into_iter().collect();
    tables.sort_by_key(|table| match table {
        TableName::Raw => {
            if has_zones {
                0
            } else {
                3
            }
        }
        TableName::Mangle => {
            if captures_by_tproxy {
                3
            } else {
                1
            }
        }
        TableName::Filter | TableName::Security => 1,
        TableName::Nat => 2,
    });
    tables
}

fn own_chains(wanted: &RuleSet, table: TableName) -> Vec<ChainName> {
    let chains: &[Chain] = wanted.tables.get(&table).map_or(&[], |table| &table.chains);
    chains.iter().map(|chain| chain.name.clone()).filter(|name| !name.is_built_in()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Facts, build};
    use crate::flags::{FLAGS, Givens};
    use crate::parse::parse;
    use crate::program::{Ipv6, Spot};
    use crate::ruleset::{Rule, Target};
    use crate::settings::Settings;

    const BEFORE: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n:ISTIO_OLD - [0:0]\n-A OUTPUT -d 10.0.0.1/32 -j ACCEPT\n\
        -A OUTPUT -j ISTIO_OLD\n-A OUTPUT -m comment --comment \"ISTIO_OUTPUT\" -j RETURN\n-A ISTIO_OLD -j RETURN\nCOMMIT\n";

    fn program() -> Program {
        let jump = Rule::new([], Target::Jump(ChainName::OUTBOUND));
        let spot = Spot::append(TableName::Nat, ChainName::OUTPUT);
        let entries = vec![crate::program::Entry::new(Family::V4, spot, jump)];
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
    fn no_cut_between_tables_captures_twice_or_redirects_dns_without_zones() {
        use TableName::{Mangle, Nat, Raw};
        let rules = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let (givens, _) = Givens::scan(&flags, &Default::default(), FLAGS);
            let (mut settings, _) = Settings::read(&givens).unwrap();
            settings.fill_owners(1337);
            build(&settings, &Facts { ipv6: Ipv6::Off(String::new()), dns_servers: Vec::new() })
                .rule_set(Family::V4)
        };
        let redirect = rules(&["-i", "*", "-b", "*"]);
        let dropping = rules(&["-i", "*", "-b", "*", "--drop-invalid"]);
        let tproxy = rules(&["-i", "*", "-b", "*", "-m", "TPROXY"]);
        let dns = rules(&["-i", "*", "-b", "*", "-m", "TPROXY", "--redirect-dns", "--capture-all-dns"]);
        for (from, to, expected) in [
            (&redirect, &tproxy, &[Nat, Mangle][..]),
            (&tproxy, &redirect, &[Mangle, Nat]),
            (&tproxy, &dropping, &[Mangle, Nat]),
            (&redirect, &dns, &[Raw, Nat, Mangle]),
            (&dns, &tproxy, &[Nat, Mangle, Raw]),
            (&dns, &redirect, &[Mangle, Nat, Raw]),
        ] {
            let tables = from.tables.keys().chain(to.tables.keys()).copied().collect();
            assert_eq!(in_order(tables, to), expected);
        }
        let removal = remove(&Found::holding(&dns));
        let order: Vec<_> = removal.lines().filter_map(|line| line.strip_prefix('*')).collect();
        assert_eq!(order, ["mangle", "nat", "raw"]);
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
