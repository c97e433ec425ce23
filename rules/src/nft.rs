//! The rule program as a script for `nft -f`: three tables of the family inet, one transaction.
//!
//! One rule serves both address families unless it names an address; the IPv6 one then follows right behind.

use std::collections::BTreeMap;
use std::fmt::Write;

use ipnet::IpNet;

use crate::program::{Entry, Place, Program};
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Condition, Family, Match, Protocol, TableName, Target};

/// Our tables, in the order they are written.
pub const TABLES: [(TableName, &str); 3] = [
    (TableName::Nat, "istio-proxy-nat"),
    (TableName::Mangle, "istio-proxy-mangle"),
    (TableName::Raw, "istio-proxy-raw"),
];

/// The script that puts the rules in place of whatever our tables held.
pub fn script(program: &Program) -> String {
    let mut text = String::new();
    for (_, name) in TABLES {
        line(&mut text, format_args!("add table inet {name}"));
        line(&mut text, format_args!("flush table inet {name}"));
    }
    for (table, name) in TABLES {
        TableScript::new(program, table, name).write(&mut text);
    }
    text
}

/// The script that takes our tables away. Deleting needs them to exist, so they are made first.
pub fn removal() -> String {
    let mut text = String::new();
    for (_, name) in TABLES {
        line(&mut text, format_args!("add table inet {name}"));
        line(&mut text, format_args!("delete table inet {name}"));
    }
    text
}

struct TableScript<'p> {
    table: TableName,
    name: &'static str,
    entries: Vec<&'p Entry>,
}

impl<'p> TableScript<'p> {
    fn new(program: &'p Program, table: TableName, name: &'static str) -> Self {
        let v4: Vec<_> = program.entries_of(Family::V4, table).collect();
        let serves_both = |entry: &Entry| {
            entry.family == Family::V6
                && !names_an_address(entry)
                && v4.iter().any(|v4| v4.spot == entry.spot && v4.rule == entry.rule)
        };
        let in_table = program.entries.iter().filter(|entry| entry.spot.table == table);
        Self { table, name, entries: in_table.filter(|entry| !serves_both(entry)).collect() }
    }

    fn write(&self, text: &mut String) {
        for chain in self.chains() {
            let base = self.base(chain);
            line(text, format_args!("add chain inet {} {}{base}", self.name, chain_name(chain)));
        }
        let mut lengths: BTreeMap<&ChainName, usize> = BTreeMap::new();
        for entry in &self.entries {
            let length = lengths.entry(&entry.spot.chain).or_default();
            let chain = chain_name(&entry.spot.chain);
            let rule = rule(entry);
            match entry.spot.place {
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
        for entry in &self.entries {
            if !chains.contains(&&entry.spot.chain) {
                chains.push(&entry.spot.chain);
            }
        }
        chains.sort_by_key(|chain| !chain.is_built_in());
        chains
    }

    fn base(&self, chain: &ChainName) -> String {
        if !chain.is_built_in() {
            return String::new();
        }
        let output = *chain == ChainName::OUTPUT;
        let (kind, priority) = match self.table {
            TableName::Nat => ("nat", -100),
            TableName::Mangle if output => ("route", -150),
            TableName::Mangle => ("filter", -150),
            _ => ("filter", -300),
        };
        format!(" {{ type {kind} hook {} priority {priority} ; policy accept ; }}", chain_name(chain))
    }
}

fn names_an_address(entry: &Entry) -> bool {
    let address = |m: &Match| matches!(m.condition, Condition::Source(_) | Condition::Destination(_));
    entry.rule.matches.iter().any(address) || matches!(entry.rule.target, Target::Tproxy { .. })
}

/// `ISTIO_IN_REDIRECT` is `istio-in-redirect` here.
fn chain_name(chain: &ChainName) -> String {
    chain.as_str().to_ascii_lowercase().replace('_', "-")
}

fn rule(entry: &Entry) -> String {
    let mut matches: Vec<&Match> = entry.rule.matches.iter().collect();
    // A stable sort: only the connection's state changes its place, in front of the ports.
    matches.sort_by_key(|m| {
        matches!(m.condition, Condition::DestinationPort(_)) && asks_state(&entry.rule.matches)
    });
    let protocol = protocol(&entry.rule.matches);
    let mut words: Vec<String> = Vec::new();
    if entry.rule.purpose == Some(Purpose::DropInvalid) && protocol.is_none() && !matches.is_empty() {
        words.push("meta l4proto tcp".to_owned());
    }
    let implied =
        matches!(entry.rule.purpose, Some(Purpose::ExcludedOutboundPort | Purpose::CaptureOutboundPort));
    let spoken = matches.iter().filter(|m| !(implied && matches!(m.condition, Condition::Protocol(_))));
    words.extend(spoken.filter_map(|m| condition(m, protocol)));
    words.push(target(&entry.rule.target, entry.family));
    words.join(" ")
}

fn asks_state(matches: &[Match]) -> bool {
    matches.iter().any(|m| matches!(m.condition, Condition::ConnectionState(_)))
}

fn protocol(matches: &[Match]) -> Option<Protocol> {
    matches.iter().find_map(|m| match m.condition {
        Condition::Protocol(protocol) => Some(protocol),
        _ => None,
    })
}

fn condition(m: &Match, protocol: Option<Protocol>) -> Option<String> {
    let not = if m.negated { "!= " } else { "" };
    let transport = protocol.unwrap_or(Protocol::Tcp);
    let text = match &m.condition {
        Condition::InInterface(interface) => format!("iifname {not}{}", interface_name(interface.as_str())),
        Condition::OutInterface(interface) => format!("oifname {not}{}", interface_name(interface.as_str())),
        Condition::Source(net) => format!("{} saddr {not}{}", address_word(net), net.trunc()),
        Condition::Destination(net) => format!("{} daddr {not}{}", address_word(net), net.trunc()),
        Condition::Protocol(protocol) => format!("meta l4proto {not}{protocol}"),
        Condition::SourcePort(port) => {
            format!("{transport} sport {not}{}", port.to_string().replace(':', "-"))
        }
        Condition::DestinationPort(port) => {
            format!("{transport} dport {not}{}", port.to_string().replace(':', "-"))
        }
        Condition::DestinationPorts(ports) => {
            let ports: Vec<_> = ports.iter().map(|port| port.to_string().replace(':', "-")).collect();
            format!("{transport} dport {not}{{ {} }}", ports.join(", "))
        }
        Condition::User(owner) => format!("skuid {not}{owner}"),
        Condition::Group(owner) => format!("skgid {not}{owner}"),
        Condition::Mark(mark) => format!("meta mark {not}{mark}"),
        Condition::ConnectionMark(mark) => format!("ct mark {not}{mark}"),
        Condition::ConnectionState(states) => {
            let states: Vec<_> = states.iter().map(|state| state.to_string().to_ascii_lowercase()).collect();
            format!("ct state {not}{}", states.join(","))
        }
        // The tables are ours as a whole, so no rule needs our mark; and the program holds nothing unread.
        Condition::Comment(_) | Condition::Other(_) => return None,
    };
    Some(text)
}

fn interface_name(name: &str) -> String {
    format!("\"{}\"", name.replace('+', "*"))
}

fn address_word(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "ip",
        IpNet::V6(_) => "ip6",
    }
}

fn target(target: &Target, family: Family) -> String {
    match target {
        Target::Continue => "counter".to_owned(),
        Target::Return => "counter return".to_owned(),
        Target::Accept => "counter accept".to_owned(),
        Target::Drop => "counter drop".to_owned(),
        Target::Jump(chain) => format!("counter jump {}", chain_name(chain)),
        Target::Redirect(port) => format!("counter redirect to :{port}"),
        Target::SetMark(mark) => format!("counter meta mark set {mark}"),
        Target::Tproxy { port, mark } => {
            let family = if family == Family::V4 { "ip" } else { "ip6" };
            format!("tproxy {family} to :{port} meta mark set {mark} counter accept")
        }
        Target::SaveMark => "counter ct mark set mark".to_owned(),
        Target::RestoreMark => "counter meta mark set ct mark".to_owned(),
        Target::Zone(zone) => format!("counter ct zone set {zone}"),
        Target::Other(text) => text.clone(),
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a String cannot fail");
}
