//! One rule in the words of `nft`.

use ipnet::IpNet;

use crate::ports::PortRange;
use crate::purpose::Purpose;
use crate::ruleset::{Condition, Family, Match, Protocol, Rule, Target};

use super::chain_name;

/// The rule in the words of `nft`. `family` is the only one it serves, if it does not serve both.
pub fn rule(rule: &Rule, family: Option<Family>) -> String {
    let protocol = protocol(&rule.matches);
    // In these rules the port says it already.
    let implied = matches!(rule.purpose, Some(Purpose::ExcludedOutboundPort | Purpose::CaptureOutboundPort));
    let spoken = rule.matches.iter().filter(|m| !(implied && matches!(m.condition, Condition::Protocol(_))));
    let mut words: Vec<String> = spoken.filter_map(|m| condition(m, protocol)).collect();
    words.push(target(&rule.target, family));
    words.join(" ")
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
        Condition::SourcePort(range) => format!("{transport} sport {not}{}", ports(range)),
        Condition::DestinationPort(range) => format!("{transport} dport {not}{}", ports(range)),
        Condition::DestinationPorts(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(ports).collect();
            format!("{transport} dport {not}{{ {} }}", ranges.join(", "))
        }
        Condition::User(owner) => format!("skuid {not}{owner}"),
        Condition::Group(owner) => format!("skgid {not}{owner}"),
        Condition::Mark(mark) => format!("meta mark {not}{mark}"),
        Condition::ConnectionMark(mark) => format!("ct mark {not}{mark}"),
        Condition::ConnectionState(states) => {
            let states: Vec<_> = states.iter().map(|state| state.to_string().to_ascii_lowercase()).collect();
            format!("ct state {not}{}", states.join(","))
        }
        // The tables are ours as a whole, so no rule needs our mark.
        Condition::Comment(_) => return None,
        Condition::Other(text) => text.clone(),
    };
    Some(text)
}

fn ports(range: &PortRange) -> String {
    range.to_string().replace(':', "-")
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

/// What the rule does, in the words of `nft`.
pub(super) fn target(target: &Target, family: Option<Family>) -> String {
    match target {
        Target::Continue => "counter".to_owned(),
        Target::Return => "counter return".to_owned(),
        Target::Accept => "counter accept".to_owned(),
        Target::Drop => "counter drop".to_owned(),
        Target::Jump(chain) => format!("counter jump {}", chain_name(chain)),
        Target::Redirect(port) => format!("counter redirect to :{port}"),
        Target::SetMark(mark) => format!("counter meta mark set {mark}"),
        Target::Tproxy { port, mark } => {
            let family = if family == Some(Family::V6) { "ip6" } else { "ip" };
            format!("tproxy {family} to :{port} meta mark set {mark} counter accept")
        }
        Target::SaveMark => "counter ct mark set mark".to_owned(),
        Target::RestoreMark => "counter meta mark set ct mark".to_owned(),
        Target::Zone(zone) => format!("counter ct zone set {zone}"),
        Target::Other(text) => text.clone(),
    }
}
