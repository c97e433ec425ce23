//! Tables of legacy iptables, as the kernel hands them out (`linux/netfilter_ipv4/ip_tables.h`, `…_ipv6/ip6_tables.h`):
//! chains one after the other, each closed by its policy, or by the return that iptables adds to chains of its users.
//!
//! Read as [`crate::parse`] reads what `iptables-legacy-save` prints. What is not understood equals no rule of ours.

use std::collections::HashMap;

use crate::bytes::{text, word};
use crate::parse::{FoundChain, FoundRule, FoundTable};
use crate::render;
use crate::ruleset::{ChainName, Family, Rule, TableName, Target};
use entry::Entry;

mod entry;

/// The lengths of a table's name, and of the structures of questions and answers.
const NAME: usize = 32;
const INFO: usize = 84;
const ENTRIES: usize = 40;

/// What the kernel calls itself, in the order of its hooks.
const BUILT_IN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// Verdicts of the kernel, as rules hold them.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;

/// The structure that asks for a table's shape (`IPT_SO_GET_INFO`), to be filled by the kernel.
pub fn info_request(table: TableName) -> Vec<u8> {
    let mut request = table.to_string().into_bytes();
    request.resize(INFO, 0);
    request
}

/// The structure that asks for the rules of the table with this shape (`IPT_SO_GET_ENTRIES`), to be filled by the kernel.
///
/// None for a shape that makes no sense, or one so large that no pod has it.
pub fn entries_request(info: &[u8]) -> Option<Vec<u8>> {
    const MOST: usize = 16 << 20;
    let size = word(info, INFO - 4)?;
    let length = usize::try_from(size).ok().filter(|size| *size <= MOST)?;
    let mut request = info.get(..NAME)?.to_vec();
    request.extend_from_slice(&size.to_ne_bytes());
    request.resize(ENTRIES + length, 0);
    Some(request)
}

/// The table that both answers tell of; none when they make no sense.
pub fn decode(family: Family, info: &[u8], answer: &[u8]) -> Option<FoundTable> {
    // Where 64-bit numbers are aligned to less, as on i386, structures are laid out otherwise.
    if align_of::<u64>() != 8 {
        return None;
    }
    let shape = Shape::read(info)?;
    let entries = Entry::list(family, answer.get(ENTRIES..)?)?;
    let (terminator, entries) = entries.split_last()?;
    terminator.chain_begun()?;
    let names = chains_by_place(&shape, entries);
    let mut chains: Vec<FoundChain> = Vec::new();
    for entry in entries {
        if let Some(name) = shape.built_in_at(entry.at) {
            chains.push(FoundChain { name, policy: None, rules: Vec::new() });
        }
        if let Some(name) = entry.chain_begun() {
            chains.push(FoundChain { name: ChainName::new(name), policy: None, rules: Vec::new() });
            continue;
        }
        let chain = chains.last_mut()?;
        if shape.policies.contains(&Some(entry.at)) {
            chain.policy = Some(policy(entry)?.to_owned());
        } else {
            let rule = entry.rule(&names)?;
            chain.rules.push(FoundRule { text: render::rule(&rule), rule, counters: None });
        }
    }
    for chain in chains.iter_mut().filter(|chain| chain.policy.is_none()) {
        chain.rules.pop().filter(|last| last.rule == Rule::new([], Target::Return))?;
    }
    Some(FoundTable { chains })
}

fn policy(entry: &Entry<'_>) -> Option<&'static str> {
    match entry.verdict()? {
        ACCEPT => Some("ACCEPT"),
        DROP => Some("DROP"),
        _ => None,
    }
}

/// The names of the chains of users by the place of their first rule, which is where jumps lead.
fn chains_by_place(shape: &Shape, entries: &[Entry<'_>]) -> HashMap<usize, ChainName> {
    let begun = entries.iter().filter_map(|entry| Some((entry.end(), ChainName::new(entry.chain_begun()?))));
    begun.filter(|(at, _)| shape.built_in_at(*at).is_none()).collect()
}

/// `struct ipt_getinfo`: where the built-in chains of a table begin, and where their policies are.
struct Shape {
    beginnings: [Option<usize>; 5],
    policies: [Option<usize>; 5],
}

impl Shape {
    fn read(info: &[u8]) -> Option<Self> {
        text(info.get(..NAME)?)?;
        let hooks = word(info, NAME)?;
        let place = |from: usize, hook: usize| {
            let at = usize::try_from(word(info, from + hook * 4)?).ok()?;
            (hooks >> hook & 1 == 1).then_some(at)
        };
        let places = |from: usize| std::array::from_fn(|hook| place(from, hook));
        Some(Self { beginnings: places(NAME + 4), policies: places(NAME + 24) })
    }

    fn built_in_at(&self, at: usize) -> Option<ChainName> {
        let hook = self.beginnings.iter().position(|beginning| *beginning == Some(at))?;
        Some(ChainName::new(BUILT_IN[hook]))
    }
}
