//! The rule program as a script for `nft -f`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::program::{Place, Program};
use crate::ruleset::{ChainName, TableName};

use super::layout::{Step, steps};
use super::{Hook, TABLES, base, chain_name, words};

/// The script that puts the rules in place of whatever our tables held.
pub fn script(program: &Program) -> String {
    let mut text = String::new();
    for (_, name) in TABLES {
        line(&mut text, format_args!("add table inet {name}"));
        line(&mut text, format_args!("flush table inet {name}"));
    }
    for (table, name) in TABLES {
        TableScript { table, name, steps: steps(program, table) }.write(&mut text);
    }
    text
}

struct TableScript<'p> {
    table: TableName,
    name: &'static str,
    steps: Vec<Step<'p>>,
}

impl<'p> TableScript<'p> {
    fn write(&self, text: &mut String) {
        for chain in self.chains() {
            line(text, format_args!("{}", chain_words(self.table, chain)));
        }
        let mut lengths: BTreeMap<&ChainName, usize> = BTreeMap::new();
        for step in &self.steps {
            let length = lengths.entry(step.chain).or_default();
            let chain = chain_name(step.chain);
            let rule = words::rule(&step.rule.rule, step.rule.family);
            match step.place {
                // There is no place after the last rule to insert at: adding is the same.
                Place::Insert(place) if place <= *length => {
                    let index = place - 1;
                    line(text, format_args!("insert rule inet {} {chain} index {index} {rule}", self.name));
                }
                _ => line(text, format_args!("add rule inet {} {chain} {rule}", self.name)),
            }
            *length += 1;
        }
    }

    /// The chains with rules, those the kernel calls first.
    fn chains(&self) -> Vec<&'p ChainName> {
        let mut chains: Vec<&ChainName> = Vec::new();
        for step in &self.steps {
            if !chains.contains(&step.chain) {
                chains.push(step.chain);
            }
        }
        chains.sort_by_key(|chain| !chain.is_built_in());
        chains
    }
}

/// The command that makes the chain.
pub(super) fn chain_words(table: TableName, chain: &ChainName) -> String {
    let place = base(table, chain).map_or_else(String::new, |base| {
        let hook = match base.hook {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
        };
        format!(" {{ type {} hook {hook} priority {} ; policy accept ; }}", base.kind, base.priority)
    });
    format!("add chain inet {} {}{place}", super::table_name(table), chain_name(chain))
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String cannot fail");
}
