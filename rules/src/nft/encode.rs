//! The messages that make the kernel hold a layout, whatever our tables held before.
//!
//! The expressions are those that `nft` makes of the same rule in [`super::script`], so that either is listed alike.

use crate::ruleset::TableName;

use super::kernel::{chain, expression, rule, set, table, verdict};
use super::layout::{InetChain, InetRule, Layout};
use super::wire::Attributes;
use super::{TABLES, base, chain_name, script, table_name, words};
use expressions::Expressions;

mod expressions;

/// One change in a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// What is changed.
    pub kind: Kind,
    /// The attributes.
    pub body: Vec<u8>,
    /// The same in the words of `nft`, to be shown should the kernel refuse it.
    pub words: String,
}

/// The kind of a change; the number is the kernel's (enum nf_tables_msg_types).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Makes a table, unless it is there.
    AddTable = 0,
    /// Deletes a table with all that is in it.
    DeleteTable = 2,
    /// Makes a chain.
    AddChain = 3,
    /// Puts a rule behind those of its chain.
    AddRule = 6,
    /// Makes a set.
    AddSet = 9,
    /// Puts elements into a set.
    AddElements = 12,
}

/// A rule that has no form in nftables, and why.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{rule}` cannot be written as native nftables: {reason}")]
pub struct Unencodable {
    /// The rule in the words of `nft`.
    pub rule: String,
    /// What is missing.
    pub reason: &'static str,
}

/// The changes that put the rules in place of what the `standing` tables of ours hold. To delete a table takes the
/// kernel a while, so none is that does not stand.
///
/// # Errors
/// The first rule that names a user or group rather than its number, or holds something read from elsewhere.
pub fn replace(layout: &Layout, standing: &[TableName]) -> Result<Vec<Change>, Unencodable> {
    let delete = |table: &TableName| table_change(Kind::DeleteTable, "delete", table_name(*table));
    let mut changes: Vec<_> = standing.iter().map(delete).collect();
    let mut sets = 0;
    for (table, chains) in &layout.tables {
        changes.push(table_change(Kind::AddTable, "add", table_name(*table)));
        // Every chain first: rules jump to chains further down.
        changes.extend(chains.iter().map(|chain| add_chain(*table, chain)));
        for chain in chains {
            for rule in &chain.rules {
                add_rule(&mut changes, &mut sets, *table, chain, rule)?;
            }
        }
    }
    Ok(changes)
}

/// The changes that take our tables away. Deleting needs them to exist, so they are made first.
pub fn remove() -> Vec<Change> {
    let change = |(_, name)| {
        [table_change(Kind::AddTable, "add", name), table_change(Kind::DeleteTable, "delete", name)]
    };
    TABLES.into_iter().flat_map(change).collect()
}

fn table_change(kind: Kind, verb: &str, name: &str) -> Change {
    let mut body = Attributes::default();
    body.text(table::NAME, name);
    if kind == Kind::AddTable {
        body.number(table::FLAGS, 0);
    }
    Change { kind, body: body.into_bytes(), words: format!("{verb} table inet {name}") }
}

fn add_chain(table: TableName, chain: &InetChain) -> Change {
    let mut body = Attributes::default();
    body.text(chain::TABLE, table_name(table)).text(chain::NAME, &chain_name(&chain.name));
    if let Some(base) = base(table, &chain.name) {
        body.nested(chain::HOOK, |hook| {
            hook.number(chain::HOOK_NUMBER, base.hook as u32)
                .bytes(chain::HOOK_PRIORITY, &base.priority.to_be_bytes());
        });
        body.bytes(chain::POLICY, &verdict::ACCEPT.to_be_bytes()).text(chain::KIND, base.kind);
    }
    let words = script::chain_words(table, &chain.name);
    Change { kind: Kind::AddChain, body: body.into_bytes(), words }
}

fn add_rule(
    changes: &mut Vec<Change>,
    sets: &mut u32,
    table: TableName,
    chain: &InetChain,
    rule: &InetRule,
) -> Result<(), Unencodable> {
    let words = words::rule(&rule.rule, rule.family);
    let expressions =
        Expressions::of(rule, sets).map_err(|reason| Unencodable { rule: words.clone(), reason })?;
    let chain = chain_name(&chain.name);
    let words = format!("add rule inet {} {chain} {words}", table_name(table));
    for set in &expressions.sets {
        changes.extend(set.changes(table, &words));
    }
    let mut body = Attributes::default();
    body.text(rule::TABLE, table_name(table)).text(rule::CHAIN, &chain);
    let list = expressions.list.into_bytes();
    body.nested(rule::EXPRESSIONS, |inner| inner.append(&list));
    changes.push(Change { kind: Kind::AddRule, body: body.into_bytes(), words });
    Ok(())
}

/// Ports that one rule looks a packet's up in.
struct PortSet {
    id: u32,
    ports: Vec<u16>,
}

impl PortSet {
    fn changes(&self, table: TableName, words: &str) -> [Change; 2] {
        let mut made = Attributes::default();
        made.text(set::TABLE, table_name(table))
            .text(set::NAME, set::ANONYMOUS_NAME)
            .number(set::FLAGS, set::ANONYMOUS_CONSTANT)
            .number(set::KEY_TYPE, set::TYPE_OF_PORTS)
            .number(set::KEY_LENGTH, 2)
            .number(set::ID, self.id);
        let mut filled = Attributes::default();
        filled.text(set::TABLE, table_name(table)).text(set::ELEMENTS_SET, set::ANONYMOUS_NAME);
        filled.number(set::ELEMENTS_SET_ID, self.id).nested(set::ELEMENTS, |list| {
            for port in &self.ports {
                list.nested(set::ELEMENT, |element| value(element, set::ELEMENT_KEY, &port.to_be_bytes()));
            }
        });
        let change =
            |kind, body: Attributes| Change { kind, body: body.into_bytes(), words: words.to_owned() };
        [change(Kind::AddSet, made), change(Kind::AddElements, filled)]
    }
}

fn value(body: &mut Attributes, kind: u16, bytes: &[u8]) {
    body.nested(kind, |data| {
        data.bytes(expression::DATA_VALUE, bytes);
    });
}
