//! Rules as text: restore documents for the kernel, and the same in lines for people.

use std::fmt::Write;

use crate::nft;
use crate::program::{Entry, Ipv6, Place, Program};
use crate::ruleset::{ChainName, Condition, Family, Match, Rule, TableName, Target};

/// The words in which rules are told: those of the program that holds them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// iptables.
    #[default]
    Iptables,
    /// Native nftables.
    Nft,
}

impl Dialect {
    /// A rule that packets of `family` can meet, without its chain.
    pub fn rule(self, rule: &Rule, family: Family) -> String {
        match self {
            Self::Iptables => self::rule(rule),
            Self::Nft => nft::words::rule(rule, Some(family)),
        }
    }

    /// A table and a chain in it, as in `nat ISTIO_OUTPUT` or `istio-proxy-nat istio-output`.
    pub fn place(self, table: TableName, chain: &ChainName) -> String {
        format!("{} {}", self.table(table), self.chain(chain))
    }

    /// The name of a table.
    pub fn table(self, table: TableName) -> String {
        match self {
            Self::Iptables => table.to_string(),
            Self::Nft => nft::table_name(table).to_owned(),
        }
    }

    /// The name of a chain.
    pub fn chain(self, chain: &ChainName) -> String {
        match self {
            Self::Iptables => chain.to_string(),
            Self::Nft => nft::chain_name(chain),
        }
    }
}

/// One family's rules as an iptables-restore document for a clean start, without label.
pub fn document(program: &Program, family: Family) -> String {
    let mut text = String::new();
    for (table, contents) in &program.rule_set(family).tables {
        let chains = contents.chains.iter().map(|chain| &chain.name);
        let declarations: Vec<_> = chains.filter(|chain| !chain.is_built_in()).map(declaration).collect();
        let rules = program.entries_of(family, *table).map(command);
        section(&mut text, *table, declarations.into_iter().chain(rules));
    }
    text
}

/// What a dry run prints: both families' documents under their labels, and what would be done besides.
///
/// `remarks` are the routes and addresses of a family, one command each; they appear as comments.
pub fn dry_run(program: &Program, remarks: impl Fn(Family) -> Vec<String>) -> String {
    let mut text = String::from("# IPv4 iptables-restore --noflush\n");
    family(&mut text, program, Family::V4, &remarks);
    match &program.ipv6 {
        Ipv6::On => {
            text.push_str("# IPv6 ip6tables-restore --noflush\n");
            family(&mut text, program, Family::V6, &remarks);
        }
        Ipv6::Off(reason) => line(&mut text, format_args!("# IPv6 none: {reason}")),
    }
    text
}

fn family(text: &mut String, program: &Program, family: Family, remarks: &impl Fn(Family) -> Vec<String>) {
    text.push_str(&document(program, family));
    for remark in remarks(family) {
        line(text, format_args!("# {remark}"));
    }
}

/// One table of a restore document.
pub(crate) fn section(text: &mut String, table: TableName, lines: impl Iterator<Item = String>) {
    line(text, format_args!("*{table}"));
    for content in lines {
        line(text, format_args!("{content}"));
    }
    text.push_str("COMMIT\n");
}

/// Creates the chain, or empties it (measured: `:CHAIN` under `--noflush` flushes, `-N` fails when the chain exists).
pub(crate) fn declaration(chain: &ChainName) -> String {
    format!(":{chain} - [0:0]")
}

/// The command that puts the entry in place.
pub(crate) fn command(entry: &Entry) -> String {
    let chain = &entry.location.chain;
    let rule = rule(&entry.rule);
    let gap = if rule.is_empty() { "" } else { " " };
    match entry.location.place {
        Place::Append => format!("-A {chain}{gap}{rule}"),
        Place::Insert(place) => format!("-I {chain} {place}{gap}{rule}"),
    }
}

/// The rule in the words of iptables, without its chain.
pub fn rule(rule: &Rule) -> String {
    let mut words: Vec<_> = rule.matches.iter().map(condition).collect();
    words.extend(target(&rule.target));
    words.join(" ")
}

/// The match in the words of iptables.
pub fn condition(m: &Match) -> String {
    let not = if m.negated { "! " } else { "" };
    match &m.condition {
        Condition::InInterface(interface) => format!("{not}-i {interface}"),
        Condition::OutInterface(interface) => format!("{not}-o {interface}"),
        Condition::Source(net) => format!("{not}-s {net}"),
        Condition::Destination(net) => format!("{not}-d {net}"),
        Condition::Protocol(protocol) => format!("{not}-p {protocol}"),
        Condition::SourcePort(port) => format!("{not}--sport {port}"),
        Condition::DestinationPort(port) => format!("{not}--dport {port}"),
        Condition::DestinationPorts(ports) => format!("-m multiport {not}--dports {}", commas(ports)),
        Condition::User(owner) => format!("-m owner {not}--uid-owner {owner}"),
        Condition::Group(owner) => format!("-m owner {not}--gid-owner {owner}"),
        Condition::Mark(mark) => format!("-m mark {not}--mark {mark}"),
        Condition::ConnectionMark(mark) => format!("-m connmark {not}--mark {mark}"),
        Condition::ConnectionState(states) => format!("-m conntrack {not}--ctstate {}", commas(states)),
        Condition::Comment(text) => format!("-m comment --comment {}", quoted(text)),
        Condition::Other(text) => format!("{not}{text}"),
    }
}

/// The target in the words of iptables; none for a rule that only counts.
pub fn target(target: &Target) -> Option<String> {
    let text = match target {
        Target::Continue => return None,
        Target::Return => "-j RETURN".to_owned(),
        Target::Accept => "-j ACCEPT".to_owned(),
        Target::Drop => "-j DROP".to_owned(),
        Target::Jump(chain) => format!("-j {chain}"),
        Target::Redirect(port) => format!("-j REDIRECT --to-ports {port}"),
        Target::SetMark(mark) => format!("-j MARK --set-mark {mark}"),
        Target::Tproxy { port, mark } => {
            format!("-j TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}")
        }
        Target::SaveMark => "-j CONNMARK --save-mark".to_owned(),
        Target::RestoreMark => "-j CONNMARK --restore-mark".to_owned(),
        Target::Zone(zone) => format!("-j CT --zone {zone}"),
        Target::Other(text) => text.clone(),
    };
    Some(text)
}

fn quoted(text: &str) -> String {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte)) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn commas<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String cannot fail");
}
