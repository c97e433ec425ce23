//! Tables as the kernel holds them, and restore documents carried out on them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rules::parse::{Found, parse};
use rules::ruleset::Family;

/// The tables of one family as the kernel holds them: each chain with its rules.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Kernel(BTreeMap<String, BTreeMap<String, Vec<String>>>);

const BUILT_IN: [&str; 2] = ["PREROUTING", "OUTPUT"];

impl Kernel {
    /// What it is after each COMMIT of `document`.
    pub(crate) fn after_each(&self, document: &str) -> Vec<Self> {
        let mut states = Vec::new();
        let mut now = self.clone();
        for section in document.split_inclusive("COMMIT\n") {
            now.commit(section);
            states.push(now.clone());
        }
        states
    }

    fn commit(&mut self, section: &str) {
        let (table, lines) = section.strip_prefix('*').unwrap().split_once('\n').unwrap();
        let chains = self
            .0
            .entry(table.to_owned())
            .or_insert_with(|| BUILT_IN.into_iter().map(|chain| (chain.to_owned(), Vec::new())).collect());
        for line in lines.lines().filter(|line| *line != "COMMIT") {
            carry_out(chains, line);
        }
    }

    pub(crate) fn found(&self, family: Family) -> Found {
        let mut text = String::new();
        for (table, chains) in &self.0 {
            writeln!(text, "*{table}").unwrap();
            for chain in chains.keys() {
                let policy = if BUILT_IN.contains(&chain.as_str()) { "ACCEPT" } else { "-" };
                writeln!(text, ":{chain} {policy} [0:0]").unwrap();
            }
            for (chain, rules) in chains {
                for rule in rules {
                    writeln!(text, "-A {chain} {rule}").unwrap();
                }
            }
            text.push_str("COMMIT\n");
        }
        parse(family, &text).unwrap()
    }
}

/// One line of a restore document; what iptables would refuse panics.
fn carry_out(chains: &mut BTreeMap<String, Vec<String>>, line: &str) {
    let (command, rest) = line.split_once(' ').unwrap();
    let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    if let Some(declared) = command.strip_prefix(':') {
        assert!(declared.len() <= 28, "{line}");
        chains.insert(declared.to_owned(), Vec::new());
        return;
    }
    if let Some((_, target)) = rule.split_once("-j ISTIO_") {
        assert!(command == "-D" || chains.contains_key(&format!("ISTIO_{target}")), "{line}");
    }
    let rules = chains.get_mut(chain).unwrap_or_else(|| panic!("{line}"));
    match command {
        "-A" => rules.push(rule.to_owned()),
        "-I" => {
            let (number, rule) = rule.split_once(' ').unwrap();
            rules.insert(number.parse::<usize>().unwrap() - 1, rule.to_owned());
        }
        "-D" => {
            rules.remove(
                rules.iter().position(|standing| standing == rule).unwrap_or_else(|| panic!("{line}")),
            );
        }
        "-F" => rules.clear(),
        "-X" => {
            assert_eq!(chains.remove(chain), Some(Vec::new()), "{line}");
            let jump = format!("-j {chain}");
            assert!(!chains.values().flatten().any(|rule| rule.ends_with(&jump)), "{line}: still in use");
        }
        other => panic!("{other}"),
    }
}
