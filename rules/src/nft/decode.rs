//! What the kernel says of our tables, as rules of both families.
//!
//! A rule that names no address is met by packets of both families, and so is found in both. Everything in our tables
//! counts as ours, whoever put it there: they are replaced as a whole.

use std::collections::{BTreeMap, HashMap};

use crate::parse::{Counters, Found, FoundChain, FoundRule, FoundTable};
use crate::program::OWN_COMMENT;
use crate::render::{self, Dialect};
use crate::ruleset::{ChainName, Condition, Family, Rule, TableName};

use super::kernel::{chain, expression, rule, set, table};
use super::wire::{attributes, find, number, text};
use super::{base, words};

mod expressions;
mod values;

/// What the kernel answered about one family of tables: the attributes of every table, chain, rule and set element.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// One message for each table.
    pub tables: Vec<Vec<u8>>,
    /// One message for each chain.
    pub chains: Vec<Vec<u8>>,
    /// One message for each rule, in order.
    pub rules: Vec<Vec<u8>>,
    /// Messages with elements of sets.
    pub elements: Vec<Vec<u8>>,
}

/// The table that a message about tables tells of, if it is one of ours.
pub fn table_of(message: &[u8]) -> Option<TableName> {
    super::table(text(message, table::NAME)?)
}

/// The sets that rules look into: the name of the table and that of the set.
pub fn sets_of(rules: &[Vec<u8>]) -> Vec<(String, String)> {
    let sets = |rule: &Vec<u8>| -> Vec<(String, String)> {
        let Some(table) = text(rule, rule::TABLE) else { return Vec::new() };
        let lookups = expressions(rule).filter(|(name, _)| *name == "lookup");
        let names = lookups.filter_map(|(_, body)| text(body, expression::LOOKUP_SET));
        names.map(|set| (table.to_owned(), set.to_owned())).collect()
    };
    rules.iter().flat_map(sets).collect()
}

/// The attributes that ask for the rules of a table.
pub fn rules_request(table: TableName) -> Vec<u8> {
    let mut body = super::wire::Attributes::default();
    body.text(rule::TABLE, super::table_name(table));
    body.into_bytes()
}

/// The attributes that ask for the elements of a set.
pub fn elements_request(table: &str, set: &str) -> Vec<u8> {
    let mut body = super::wire::Attributes::default();
    body.text(set::TABLE, table).text(set::ELEMENTS_SET, set);
    body.into_bytes()
}

/// Our tables for each family: IPv4, IPv6. What cannot be understood is kept as such, and never taken for a rule of ours.
pub fn decode(dump: &Dump) -> [Found; 2] {
    let found = Family::BOTH.map(|family| Found { dialect: Dialect::Nft, ..Found::nothing(family) });
    read(dump, Tables::Native, found)
}

/// The tables that iptables has made for `family`, told in its words as far as they can be understood here.
///
/// A rule that is not understood equals no other.
pub fn decode_iptables(dump: &Dump, family: Family) -> Found {
    let [found] = read(dump, Tables::Iptables(family), [Found::nothing(family)]);
    found
}

fn read<const N: usize>(dump: &Dump, tables: Tables, mut found: [Found; N]) -> [Found; N] {
    let sets = ports_of_sets(&dump.elements);
    let mut asleep = Vec::new();
    for message in &dump.tables {
        let Some(table) = text(message, table::NAME).and_then(|name| tables.table(name)) else { continue };
        asleep.extend((!is_in_force(message)).then_some(table));
        for found in &mut found {
            found.tables.insert(table, FoundTable::default());
        }
    }
    let mut names = HashMap::new();
    for message in &dump.chains {
        let read = read_chain(message, tables).filter(|(table, ..)| !asleep.contains(table));
        let Some((table, name, chain)) = read else { continue };
        names.insert((table, name), chain.name.clone());
        for found in &mut found {
            found.tables.entry(table).and_modify(|table| table.chains.push(chain.clone()));
        }
    }
    for message in &dump.rules {
        let Some((table, chain, rule)) = read_rule(message, tables, &names, &sets) else { continue };
        for found in found.iter_mut().filter(|found| rule.serves(found.family)) {
            let chains = found.tables.get_mut(&table).map(|table| &mut table.chains);
            let chain = chains.and_then(|chains| chains.iter_mut().find(|found| found.name == chain));
            if let Some(chain) = chain {
                chain.rules.push(rule.found.clone());
            }
        }
    }
    found
}

/// Whose tables are read: they are named differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tables {
    Native,
    Iptables(Family),
}

impl Tables {
    fn table(self, name: &str) -> Option<TableName> {
        match self {
            Self::Native => super::table(name),
            Self::Iptables(_) => TableName::named(name),
        }
    }

    fn chain(self, name: &str) -> ChainName {
        match self {
            Self::Native => super::chain(name),
            Self::Iptables(_) => ChainName::new(name),
        }
    }

    /// The only family whose packets meet any rule.
    fn family(self) -> Option<Family> {
        match self {
            Self::Native => None,
            Self::Iptables(family) => Some(family),
        }
    }

    fn words(self, rule: &Rule, family: Option<Family>) -> String {
        match self {
            Self::Native => words::rule(rule, family),
            Self::Iptables(_) => render::rule(rule),
        }
    }
}

/// A table that is switched off decides nothing, as if it were empty.
fn is_in_force(message: &[u8]) -> bool {
    number(message, table::FLAGS).is_none_or(|flags| flags & table::DORMANT == 0)
}

/// The table, the chain's own name, and the chain. A built-in chain that the kernel calls elsewhere is not ours.
fn read_chain(message: &[u8], tables: Tables) -> Option<(TableName, String, FoundChain)> {
    let table = tables.table(text(message, chain::TABLE)?)?;
    let own_name = text(message, chain::NAME)?;
    let mut name = tables.chain(own_name);
    let hook = find(message, chain::HOOK);
    let policy = hook.map(|_| if number(message, chain::POLICY) == Some(0) { "DROP" } else { "ACCEPT" });
    let wanted = base(table, &name);
    let is_wanted = wanted.is_none() && hook.is_none()
        || wanted.zip(hook).is_some_and(|(wanted, hook)| {
            text(message, chain::KIND) == Some(wanted.kind)
                && number(hook, chain::HOOK_NUMBER) == Some(wanted.hook as u32)
                && number(hook, chain::HOOK_PRIORITY) == Some(wanted.priority.cast_unsigned())
                && policy == Some("ACCEPT")
        });
    if !is_wanted {
        name = ChainName::new(format!("{own_name}, called from elsewhere"));
    }
    let chain = FoundChain { name, policy: policy.map(str::to_owned), rules: Vec::new() };
    Some((table, own_name.to_owned(), chain))
}

/// A rule, and the only family that it serves, if it does not serve both.
struct InetFound {
    family: Option<Family>,
    found: FoundRule,
}

impl InetFound {
    fn serves(&self, family: Family) -> bool {
        self.family.is_none_or(|only| only == family)
    }
}

fn read_rule(
    message: &[u8],
    tables: Tables,
    names: &HashMap<(TableName, String), ChainName>,
    sets: &Sets,
) -> Option<(TableName, ChainName, InetFound)> {
    let table_name = text(message, rule::TABLE)?;
    let table = tables.table(table_name)?;
    let chain = names.get(&(table, text(message, rule::CHAIN)?.to_owned()))?.clone();
    let mut reader = expressions::Reader::new(table_name, sets, tables.family());
    for (name, body) in expressions(message) {
        reader.read(name, body);
    }
    let expressions::Read { family, mut rule, counters } = reader.finish();
    let text = tables.words(&rule, family);
    if tables == Tables::Native && chain.is_built_in() {
        own(&mut rule);
    }
    Some((table, chain, InetFound { family, found: FoundRule { text, rule, counters } }))
}

/// Among the rules of built-in chains ours are known by a comment; in our tables all are.
fn own(rule: &mut Rule) {
    if !rule.jumps_to_own_chain() {
        rule.matches.push(Condition::Comment(OWN_COMMENT.to_owned()).into());
    }
}

/// The expressions of a rule: name and attributes.
fn expressions(message: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    let list = find(message, rule::EXPRESSIONS).unwrap_or_default();
    attributes(list).filter_map(|(_, expression)| {
        let body = find(expression, rule::EXPRESSION_BODY).unwrap_or_default();
        Some((text(expression, rule::EXPRESSION_NAME)?, body))
    })
}

/// The ports in each set, in order, by the names of table and set.
type Sets = BTreeMap<(String, String), Vec<u16>>;

fn ports_of_sets(messages: &[Vec<u8>]) -> Sets {
    let mut sets = Sets::new();
    for message in messages {
        let names = (text(message, set::TABLE), text(message, set::ELEMENTS_SET));
        let (Some(table), Some(name)) = names else { continue };
        let ports = sets.entry((table.to_owned(), name.to_owned())).or_default();
        let elements = attributes(find(message, set::ELEMENTS).unwrap_or_default());
        let key = |element| find(find(element, set::ELEMENT_KEY)?, expression::DATA_VALUE);
        ports.extend(
            elements.filter_map(|(_, element)| Some(u16::from_be_bytes(key(element)?.try_into().ok()?))),
        );
    }
    for ports in sets.values_mut() {
        ports.sort_unstable();
        ports.dedup();
    }
    sets
}

/// How often a rule was met.
fn counters(body: &[u8]) -> Option<Counters> {
    let read = |kind| Some(u64::from_be_bytes(find(body, kind)?.try_into().ok()?));
    Some(Counters { packets: read(expression::COUNTER_PACKETS)?, bytes: read(expression::COUNTER_BYTES)? })
}
