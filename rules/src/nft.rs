//! The rule program as native nftables: three tables of the family inet, changed in one transaction.
//!
//! One rule serves both address families unless it names an address; the IPv6 one then follows right behind.
//! [`layout()`] says which rules stand where. It is written for people by [`script`], for the kernel by [`encode`], and
//! read back by [`decode`].

use crate::program::Program;
use crate::ruleset::{ChainName, Family, TableName};

pub mod decode;
pub mod encode;
mod kernel;
pub mod layout;
mod script;
mod wire;
pub mod words;

pub use script::script;

/// Our tables, in the order they are written.
pub const TABLES: [(TableName, &str); 3] = [
    (TableName::Nat, "istio-proxy-nat"),
    (TableName::Mangle, "istio-proxy-mangle"),
    (TableName::Raw, "istio-proxy-raw"),
];

/// Our table with this name in nftables.
pub fn table(name: &str) -> Option<TableName> {
    TABLES.iter().find(|(_, known)| *known == name).map(|(table, _)| *table)
}

/// What our table is called in nftables; filter and security are never ours.
pub(crate) fn table_name(table: TableName) -> &'static str {
    TABLES.iter().find(|(known, _)| *known == table).map_or("", |(_, name)| name)
}

/// `ISTIO_IN_REDIRECT` is `istio-in-redirect` here, and `OUTPUT` is `output`.
pub(crate) fn chain_name(chain: &ChainName) -> String {
    chain.as_str().to_ascii_lowercase().replace('_', "-")
}

/// The chain that `name` stands for. What is not named as ours are keeps its name.
fn chain(name: &str) -> ChainName {
    match name {
        "prerouting" => ChainName::PREROUTING,
        "output" => ChainName::OUTPUT,
        _ if name.starts_with("istio-") => ChainName::new(name.to_ascii_uppercase().replace('-', "_")),
        _ => ChainName::new(name),
    }
}

/// Which end of a packet's way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    Source,
    Destination,
}

impl Side {
    /// Where the address stands in the header (RFC 791, RFC 8200).
    fn offset_of_address(self, family: Family) -> u32 {
        match (family, self) {
            (Family::V4, Self::Source) => 12,
            (Family::V4, Self::Destination) => 16,
            (Family::V6, Self::Source) => 8,
            (Family::V6, Self::Destination) => 24,
        }
    }

    /// Where the port stands in the header of TCP and UDP.
    fn offset_of_port(self) -> u32 {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

/// How the kernel calls a built-in chain of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Base {
    /// `nat`, `route` or `filter`.
    kind: &'static str,
    hook: Hook,
    priority: i32,
}

/// The number is the kernel's (`linux/netfilter.h`, enum nf_inet_hooks).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hook {
    Prerouting = 0,
    Output = 3,
}

/// How the kernel calls `chain` of `table`; none for a chain that is only jumped to.
fn base(table: TableName, chain: &ChainName) -> Option<Base> {
    if !chain.is_built_in() {
        return None;
    }
    let hook = if *chain == ChainName::OUTPUT { Hook::Output } else { Hook::Prerouting };
    let (kind, priority) = match (table, hook) {
        (TableName::Nat, _) => ("nat", -100),
        (TableName::Mangle, Hook::Output) => ("route", -150),
        (TableName::Mangle, Hook::Prerouting) => ("filter", -150),
        _ => ("filter", -300),
    };
    Some(Base { kind, hook, priority })
}

/// The rules of `program` as nftables holds them.
pub fn layout(program: &Program) -> layout::Layout {
    layout::Layout::of(program)
}
