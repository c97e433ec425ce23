//! The way from one set of rules to another, table by table, on which no packet meets a mixture of both.
//!
//! A table changes in one step, a set of rules does not. Whatever the way is interrupted by, every packet must fare as
//! under the old rules or as under the new ones, and two tables can decide over one connection:
//!
//! - `mangle` gives inbound connections to the transparent socket, `nat` redirects; in which of them a set of rules
//!   captures depends on its mode. Either order of the two leaves connections that nobody captures, or both do.
//! - `nat` redirects DNS queries, `raw` keeps both legs of them apart in connection tracking.
//!
//! So where one table after the other is not good enough, a table that asks both sets of rules stands in between.

use std::collections::{BTreeMap, BTreeSet};

use crate::ports::ZONE_PROXY_RESOLVER;
use crate::ruleset::{Chain, ChainName, Condition, Rule, RuleSet, Table, TableName, Target};

/// One table changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// Which.
    pub(crate) table: TableName,
    /// What it holds then.
    pub(crate) content: Content,
}

/// What a table holds after a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// What is wanted.
    Wanted,
    /// Both sets of rules, for the time in between.
    Both(Table),
}

/// The steps that make `new` of `old`, which hold our own rules only. Tables that do the same already are left alone,
/// unless all do.
pub(crate) fn steps(old: &RuleSet, new: &RuleSet) -> Vec<Step> {
    let way = Way::new(old, new);
    let others = [TableName::Filter, TableName::Security].into_iter().filter_map(|table| way.last(table));
    let mut steps: Vec<_> = others.collect();
    let (before, after) = way.zones();
    steps.extend(before);
    steps.extend(way.captures());
    steps.extend(after);
    steps
}

/// What stands in place of a table that is not there.
static NOTHING: Table = Table { chains: Vec::new() };

struct Way<'a> {
    old: &'a RuleSet,
    new: &'a RuleSet,
    /// The tables that have to do something else.
    differing: BTreeSet<TableName>,
    /// The tables to be written.
    written: BTreeSet<TableName>,
}

impl<'a> Way<'a> {
    fn new(old: &'a RuleSet, new: &'a RuleSet) -> Self {
        let tables: BTreeSet<_> = old.tables.keys().chain(new.tables.keys()).copied().collect();
        let differs = |table: &TableName| canonical(of(old, *table)) != canonical(of(new, *table));
        let differing: BTreeSet<_> = tables.iter().copied().filter(differs).collect();
        let written = if differing.is_empty() { tables } else { differing.clone() };
        Self { old, new, differing, written }
    }

    /// The step that makes a table what is wanted, if it is to be written.
    fn last(&self, table: TableName) -> Option<Step> {
        self.written.contains(&table).then_some(Step { table, content: Content::Wanted })
    }

    /// The table before and after.
    fn both(&self, table: TableName) -> [&'a Table; 2] {
        [of(self.old, table), of(self.new, table)]
    }

    /// What changes of `raw`, before `nat` does and after it: where queries are redirected, their zone is there.
    fn zones(&self) -> (Option<Step>, Option<Step>) {
        let last = self.last(TableName::Raw);
        match self.both(TableName::Raw) {
            _ if !self.differing.contains(&TableName::Raw) => (None, last),
            [old, _] if is_empty(old) => (last, None),
            [_, new] if is_empty(new) => (None, last),
            [old, new] => {
                let content = Content::Both(application_zones(old, new));
                (Some(Step { table: TableName::Raw, content }), last)
            }
        }
    }

    /// What changes of `mangle` and `nat`.
    fn captures(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let marks = self.tproxy_marks();
        let [old, new] = self.both(TableName::Nat);
        let both_differ =
            [TableName::Mangle, TableName::Nat].iter().all(|table| self.differing.contains(table));
        let order = if !both_differ || marks.iter().all(BTreeSet::is_empty) {
            [TableName::Mangle, TableName::Nat]
        } else if is_empty(old) && !translates_inbound(new) {
            // What leaves by `lo` and is redirected does not get as far as TPROXY.
            [TableName::Nat, TableName::Mangle]
        } else if is_empty(new) && !translates_inbound(old) {
            [TableName::Mangle, TableName::Nat]
        } else {
            steps.push(Step { table: TableName::Nat, content: Content::Both(either(old, new, &marks)) });
            [TableName::Mangle, TableName::Nat]
        };
        steps.extend(order.into_iter().filter_map(|table| self.last(table)));
        steps
    }

    /// The marks of packets that TPROXY has captured, before and after.
    fn tproxy_marks(&self) -> [BTreeSet<u32>; 2] {
        let mark = |rule: &Rule| match rule.target {
            Target::Tproxy { mark, .. } => Some(mark),
            _ => None,
        };
        let rules = |table: &'a Table| table.chains.iter().flat_map(|chain| &chain.rules);
        self.both(TableName::Mangle).map(|table| rules(table).filter_map(mark).collect())
    }
}

fn of(rules: &RuleSet, table: TableName) -> &Table {
    rules.tables.get(&table).unwrap_or(&NOTHING)
}

/// The chains by name, each with what its rules do.
fn canonical(table: &Table) -> BTreeMap<&ChainName, Vec<Rule>> {
    let has_meaning = |chain: &&Chain| !chain.name.is_built_in() || !chain.rules.is_empty();
    let chains = table.chains.iter().filter(has_meaning);
    chains.map(|chain| (&chain.name, chain.rules.iter().map(Rule::canonical).collect())).collect()
}

fn is_empty(table: &Table) -> bool {
    table.chains.iter().all(|chain| chain.rules.is_empty())
}

/// Whether the table may send somewhere else what comes in.
fn translates_inbound(nat: &Table) -> bool {
    rules(nat, &ChainName::PREROUTING).iter().any(|rule| rule.target != Target::Return)
}

fn rules<'t>(table: &'t Table, name: &ChainName) -> &'t [Rule] {
    table.chains.iter().find(|chain| chain.name == *name).map_or(&[], |chain| &chain.rules)
}

/// `nat` that redirects as `old` or as `new`, for each connection as the `mangle` that stands beside it asks for.
///
/// What leaves by `lo` and is redirected does not get as far as TPROXY, so nothing is captured by both, and what neither
/// set redirects is left to `mangle`. What comes in has passed `mangle`, and its mark tells what that has done with it.
fn either(old: &Table, new: &Table, marks: &[BTreeSet<u32>; 2]) -> Table {
    both(old, new, |hook, old, new| match marks {
        _ if *hook != ChainName::PREROUTING => vec![jump(old), jump(new)],
        [none, marks] if none.is_empty() => captured_asks(marks, Some(new), &[old]),
        [marks, none] if none.is_empty() => captured_asks(marks, Some(old), &[new]),
        // Neither redirects what it has captured by TPROXY.
        [before, after] => captured_asks(&(before | after), None, &[old, new]),
    })
}

/// What TPROXY has captured asks one chain or none, and everything else asks `others`.
fn captured_asks(marks: &BTreeSet<u32>, chain: Option<&ChainName>, others: &[&ChainName]) -> Vec<Rule> {
    let captured = |mark, target| Rule::new([Condition::Mark(mark).into()], target);
    let rules = |mark: &u32| {
        let asks = chain.map(|chain| captured(*mark, Target::Jump(chain.clone())));
        asks.into_iter().chain([captured(*mark, Target::Return)])
    };
    marks.iter().flat_map(rules).chain(others.iter().map(|chain| jump(chain))).collect()
}

fn jump(chain: &ChainName) -> Rule {
    Rule::new([], Target::Jump(chain.clone()))
}

/// `raw` that puts into the application's zone what `old` or `new` puts there, and nothing into another.
///
/// That keeps both legs of a redirected query apart, whichever of the two knows of the server and the proxy.
fn application_zones(old: &Table, new: &Table) -> Table {
    let mut table = both(old, new, |_, old, new| vec![jump(old), jump(new)]);
    for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
        if rule.target == Target::Zone(ZONE_PROXY_RESOLVER) {
            rule.target = Target::Return;
        }
    }
    table
}

/// A table that has the chains of both, and asks in each built-in chain as `ask` says: it is told the built-in chain,
/// and in which chains the rules stand that `old` and `new` have there.
fn both(old: &Table, new: &Table, ask: impl Fn(&ChainName, &ChainName, &ChainName) -> Vec<Rule>) -> Table {
    let own = |table: &Table| table.chains.iter().filter(|chain| chain.name.is_own()).cloned().collect();
    let mut chains: Vec<Chain> = own(old);
    let mut names = Names(chains.iter().map(|chain| chain.name.clone()).collect());
    let new = renamed(new, &mut names);
    chains.extend(own(&new));
    let hooks = old.chains.iter().chain(&new.chains).map(|chain| &chain.name);
    let hooks: BTreeSet<_> = hooks.filter(|name| name.is_built_in()).collect();
    for hook in hooks {
        let [before, after, asking] = ["OLD", "NEW", "BOTH"].map(|stem| names.fresh(stem, hook));
        chains.push(Chain { name: hook.clone(), rules: vec![jump(&asking)] });
        chains.push(Chain { rules: ask(hook, &before, &after), name: asking });
        chains.push(Chain { name: before, rules: rules(old, hook).to_vec() });
        chains.push(Chain { name: after, rules: rules(&new, hook).to_vec() });
    }
    Table { chains }
}

/// The same table with other names for its own chains.
fn renamed(table: &Table, names: &mut Names) -> Table {
    let own = table.chains.iter().map(|chain| &chain.name).filter(|name| name.is_own());
    let fresh: BTreeMap<_, _> = own.map(|name| (name.clone(), names.fresh("NEW", name))).collect();
    let mut table = table.clone();
    for chain in &mut table.chains {
        let jumps = chain.rules.iter_mut().filter_map(|rule| match &mut rule.target {
            Target::Jump(name) => Some(name),
            _ => None,
        });
        for name in std::iter::once(&mut chain.name).chain(jumps) {
            if let Some(fresh) = fresh.get(name) {
                *name = fresh.clone();
            }
        }
    }
    table
}

/// Names of chains that are taken.
struct Names(BTreeSet<ChainName>);

impl Names {
    /// A name for what `stem` says of `name`, of those that count as ours and that iptables takes: 28 letters.
    fn fresh(&mut self, stem: &str, name: &ChainName) -> ChainName {
        let rest = name.as_str().trim_start_matches("ISTIO_");
        let rest: String = rest.chars().take(15).collect();
        let numbers = (1..).map(|number| if number == 1 { String::new() } else { format!("_{number}") });
        let mut names = numbers.map(|number| ChainName::new(format!("ISTIO_{stem}_{rest}{number}")));
        let fresh = names.find(|name| !self.0.contains(name)).expect("numbers do not end");
        self.0.insert(fresh.clone());
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Facts, build};
    use crate::flags::{FLAGS, RawSettings};
    use crate::program::Ipv6;
    use crate::ruleset::Family;
    use crate::settings::Settings;

    fn rules(flags: &[&str]) -> RuleSet {
        if flags.is_empty() {
            return RuleSet::empty(Family::V4);
        }
        let flags: Vec<_> =
            [&["-i", "*", "-b", "*"], flags].concat().into_iter().map(str::to_owned).collect();
        let (raw, _) = RawSettings::scan(&flags, &Default::default(), FLAGS);
        let (mut settings, options) = Settings::read(&raw).unwrap();
        settings.fill_owners(1337);
        let dns_servers = options.dns_servers.unwrap_or_default();
        build(&settings, &Facts { ipv6: Ipv6::Off(String::new()), dns_servers }).rule_set(Family::V4)
    }

    /// The steps in words, such as `nat/both mangle nat`.
    fn way(from: &[&str], to: &[&str]) -> String {
        let word = |step: Step| match step.content {
            Content::Wanted => step.table.to_string(),
            Content::Both(_) => format!("{}/both", step.table),
        };
        steps(&rules(from), &rules(to)).into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_way_has_more_steps_than_it_needs() {
        const REDIRECT: &[&str] = &["-m", "REDIRECT"];
        const TPROXY: &[&str] = &["-m", "TPROXY"];
        const DNS: &[&str] = &["--redirect-dns", "--dns-servers", "10.0.0.1"];
        for (from, to, expected) in [
            (&[][..], REDIRECT, "nat"),
            (REDIRECT, &[], "nat"),
            (REDIRECT, &["-p", "1"], "nat"),
            (REDIRECT, &["--drop-invalid"], "mangle"),
            (REDIRECT, REDIRECT, "nat"),
            (&[], TPROXY, "nat mangle"),
            (TPROXY, &[], "mangle nat"),
            (REDIRECT, TPROXY, "nat/both mangle nat"),
            (TPROXY, REDIRECT, "nat/both mangle nat"),
            (TPROXY, &["-m", "TPROXY", "-z", "1", "-t", "7"], "nat/both mangle nat"),
            (TPROXY, &["-m", "TPROXY", "-d", "80"], "mangle"),
            (REDIRECT, DNS, "raw nat"),
            (DNS, REDIRECT, "nat raw"),
            (DNS, &["--redirect-dns", "--dns-servers", "10.0.0.2"], "raw/both nat raw"),
            (DNS, DNS, "nat raw"),
        ] {
            assert_eq!(way(from, to), expected, "{from:?} to {to:?}");
        }
    }
}
