//! Settings to rules, one scenario per directory of `tests/golden`: `settings` is what is given, `rules` what a dry run
//! prints, `rules.nft` what it prints for native nftables. `BLESS=1 cargo test -p rules --test golden` writes both anew, to be read before they are committed.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its own files should stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::build::{Facts, build};
use rules::diff;
use rules::flags::{FLAGS, RawSettings};
use rules::nft;
use rules::parse::{Found, parse};
use rules::ports::PROXY_ID;
use rules::program::{Ipv6, Program};
use rules::render;
use rules::ruleset::Family;
use rules::settings::Settings;
use rules::transaction;

/// Lines of `settings`: `flags …`, `env NAME=VALUE`, `dns-servers A B …`, `no-ipv6 REASON`; `''` is an empty argument.
#[derive(Default)]
struct Scenario {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    dns_servers: Vec<std::net::IpAddr>,
    no_ipv6: Option<String>,
}

impl Scenario {
    fn read(text: &str) -> Self {
        let mut scenario = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').expect("a word and its value");
            match word {
                "flags" => scenario.arguments.extend(rest.split_whitespace().map(|a| a.replace("''", ""))),
                "env" => {
                    let (name, value) = rest.split_once('=').expect("NAME=VALUE");
                    scenario.environment.insert(name.to_owned(), value.to_owned());
                }
                "dns-servers" => scenario
                    .dns_servers
                    .extend(rest.split(' ').map(|a| a.parse::<std::net::IpAddr>().unwrap())),
                "no-ipv6" => scenario.no_ipv6 = Some(rest.to_owned()),
                other => panic!("unknown word `{other}`"),
            }
        }
        scenario
    }

    fn program(&self) -> Program {
        let (raw, problems) = RawSettings::scan(&self.arguments, &self.environment, FLAGS);
        assert_eq!(problems, []);
        let (mut settings, _) = Settings::read(&raw).unwrap();
        settings.fill_owners(PROXY_ID);
        let ipv6 = self.no_ipv6.clone().map_or(Ipv6::On, Ipv6::Off);
        build(&settings, &Facts { ipv6, dns_servers: self.dns_servers.clone() })
    }
}

fn scenarios() -> Vec<(PathBuf, Scenario)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut directories: Vec<_> = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    let scenario = |path: &PathBuf| Scenario::read(&fs::read_to_string(path.join("settings")).unwrap());
    directories.into_iter().map(|path| (path.clone(), scenario(&path))).collect()
}

/// The document as the kernel would return it: built-in chains declared, inserts carried out.
fn as_found(program: &Program, family: Family) -> Found {
    let mut text = String::new();
    for (table, contents) in program.rule_set(family).tables {
        text.push_str(&format!("*{table}\n"));
        for chain in &contents.chains {
            let policy = if chain.name.is_built_in() { "ACCEPT" } else { "-" };
            text.push_str(&format!(":{} {policy} [0:0]\n", chain.name));
        }
        for chain in &contents.chains {
            for rule in &chain.rules {
                text.push_str(&format!("-A {} {}\n", chain.name, render::rule(rule)));
            }
        }
        text.push_str("COMMIT\n");
    }
    parse(family, &text).unwrap()
}

fn equals_file(printed: &str, expected: &Path) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(expected, printed).unwrap();
    }
    assert_eq!(printed, fs::read_to_string(expected).unwrap(), "{}", expected.display());
}

#[test]
fn every_scenario_prints_its_rules() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 15, "only {} scenarios found", scenarios.len());
    for (path, scenario) in scenarios {
        let program = scenario.program();
        equals_file(&render::dry_run(&program, |_| Vec::new()), &path.join("rules"));
        equals_file(&nft::script(&program), &path.join("rules.nft"));
    }
}

#[test]
fn rules_survive_render_and_parse() {
    for (path, scenario) in scenarios() {
        let program = scenario.program();
        for family in Family::BOTH {
            let wanted = program.rule_set(family);
            let found = as_found(&program, family);
            let difference = diff::compare(&wanted, &found);
            assert!(difference.is_empty(), "{}:\n{difference}", path.display());
        }
    }
}

#[test]
fn any_rule_taken_out_is_a_difference() {
    for (path, scenario) in scenarios() {
        let program = scenario.program();
        let wanted = program.rule_set(Family::V4);
        let whole = as_found(&program, Family::V4);
        for (table, contents) in &whole.tables {
            for (chain, found) in contents.chains.iter().enumerate() {
                for rule in 0..found.rules.len() {
                    let mut less = whole.clone();
                    less.tables.get_mut(table).unwrap().chains[chain].rules.remove(rule);
                    let same = diff::compare(&wanted, &less).is_empty();
                    assert!(!same, "{}: {table} {} {}", path.display(), found.name, found.rules[rule].text);
                }
            }
        }
    }
}

#[test]
fn removal_names_every_rule_in_built_in_chains_and_every_chain() {
    for (path, scenario) in scenarios() {
        let program = scenario.program();
        let found = as_found(&program, Family::V4);
        let removal = transaction::remove(&found);
        for chain in found.tables.values().flat_map(|table| &table.chains) {
            if chain.name.is_own() {
                assert!(removal.contains(&format!("-X {}\n", chain.name)), "{}", path.display());
            } else {
                let deletions = removal.matches(&format!("-D {} ", chain.name)).count();
                assert!(deletions >= chain.rules.len(), "{}: {}", path.display(), chain.name);
            }
        }
    }
}
