//! Results as JSON objects.

use rules::diff::{Difference, Line};
use rules::program::{Ipv6, Program};
use rules::render;
use rules::ruleset::{Family, RuleSet};
use serde_json::{Value, json};

use crate::backend::BackendKind;

/// What a dry run prints, as one object.
pub(crate) fn dry_run(program: &Program, remarks: impl Fn(Family) -> Vec<String>) -> String {
    let v6 = match &program.ipv6 {
        Ipv6::On => family(program, Family::V6, &remarks),
        Ipv6::Off(reason) => json!({ "none": reason }),
    };
    line(&json!({ "ipv4": family(program, Family::V4, &remarks), "ipv6": v6 }))
}

/// What a dry run for native nftables prints, as one object.
pub(crate) fn dry_run_native(script: &str, commands: Vec<String>) -> String {
    line(&json!({ "nft": script.lines().collect::<Vec<_>>(), "commands": commands }))
}

/// What `check` finds, as one object.
pub(crate) fn check(rules: &[Difference], routes: &[String], rival: Option<BackendKind>) -> String {
    let chains = rules.iter().flat_map(|difference| {
        difference.chains.iter().map(|chain| {
            let lines: Vec<_> = chain.lines.iter().map(difference_line).collect();
            json!({
                "family": difference.family.to_string(),
                "table": difference.dialect.table(chain.table),
                "chain": difference.dialect.chain(&chain.chain),
                "rules": lines,
            })
        })
    });
    let chains: Vec<_> = chains.collect();
    let same = chains.is_empty() && routes.is_empty() && rival.is_none();
    let rival = rival.map(|rival| rival.to_string());
    line(&json!({ "same": same, "chains": chains, "routes": routes, "rival": rival }))
}

fn difference_line(line: &Line) -> Value {
    let (state, rule) = match line {
        Line::Same(rule) => ("same", rule),
        Line::Missing(rule) => ("wanted", rule),
        Line::Surplus(rule) => ("found", rule),
    };
    json!({ "state": state, "rule": rule })
}

fn family(program: &Program, family: Family, remarks: &impl Fn(Family) -> Vec<String>) -> Value {
    json!({ "tables": tables(&program.rule_set(family)), "commands": remarks(family) })
}

fn tables(rules: &RuleSet) -> Value {
    let tables = rules.tables.iter().map(|(name, table)| {
        let chains: Vec<_> = table
            .chains
            .iter()
            .map(|chain| {
                let rules: Vec<_> = chain.rules.iter().map(rule).collect();
                json!({ "name": chain.name.as_str(), "rules": rules })
            })
            .collect();
        json!({ "name": name.to_string(), "chains": chains })
    });
    Value::Array(tables.collect())
}

fn rule(rule: &rules::ruleset::Rule) -> Value {
    let matches: Vec<_> = rule.matches.iter().map(render::condition).collect();
    json!({
        "rule": render::rule(rule),
        "matches": matches,
        "target": render::target(&rule.target),
        "purpose": rule.purpose.map(|purpose| purpose.clause()),
    })
}

fn line(value: &Value) -> String {
    format!("{value:#}\n")
}
