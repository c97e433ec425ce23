//! The pod talking to itself: proxy to application, application to itself, proxy to its own pod.

use super::{
    Writer, destination, group, leave_alone, out_by_loopback, passthrough_source, port, source, tcp, user,
};
use crate::ports::Port;
use crate::program::RuleLocation;
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Condition, Family, Match, Rule, TableName, Target};

/// The proxy hands an inbound connection to the application: capturing it again would loop.
pub(super) fn passthrough(writer: &mut Writer<'_>) {
    writer.each(&outbound(), |family| {
        leave_alone([out_by_loopback(), source(passthrough_source(family))]).because(Purpose::Passthrough)
    });
}

/// The proxy's own traffic, told by user and then by group.
pub(super) fn proxy(writer: &mut Writer<'_>) {
    let dns = writer.dns_is_active();
    let settings = writer.settings;
    for owner in &settings.proxy_uids {
        let not_ports = if dns { not_dns_nor_tunnel(writer) } else { not_tunnel(writer) };
        owner_rules(writer, &not_ports, &user(owner.clone()));
    }
    for owner in &settings.proxy_gids {
        owner_rules(writer, &not_tunnel(writer), &group(owner.clone()));
    }
}

/// Loopback destinations that no rule before has claimed are left alone.
pub(super) fn destinations(writer: &mut Writer<'_>) {
    for &family in writer.families() {
        let loopback = destination(writer.loopback(family));
        writer.only(family, outbound(), leave_alone([loopback]).because(Purpose::LoopbackDestination));
    }
}

fn owner_rules(writer: &mut Writer<'_>, not_ports: &Match, owner: &Match) {
    for &family in writer.families() {
        let rule = calls_itself(writer, family, not_ports, owner);
        writer.only(family, outbound(), rule);
    }
    if !writer.settings.captures_loopback() {
        writer.every(&outbound(), &application_loopback(writer.dns_is_active(), owner));
    }
    writer.every(&outbound(), &leave_alone([owner.clone()]).because(Purpose::ProxyTraffic));
}

/// The proxy calls a service that its own pod happens to serve: the call counts as inbound.
fn calls_itself(writer: &Writer<'_>, family: Family, not_ports: &Match, owner: &Match) -> Rule {
    let elsewhere = !destination(writer.loopback(family));
    let matches = [out_by_loopback(), elsewhere, tcp(), not_ports.clone(), owner.clone()];
    Rule::new(matches, Target::Jump(ChainName::IN_REDIRECT)).because(Purpose::ProxyCallsItself)
}

/// The application talks to itself; its DNS queries may still be captured.
fn application_loopback(dns: bool, owner: &Match) -> Rule {
    let mut matches = vec![out_by_loopback()];
    if dns {
        matches.extend([tcp(), !port(Port::RESOLVER)]);
    }
    matches.push(!owner.clone());
    leave_alone(matches).because(Purpose::ApplicationLoopback)
}

fn not_tunnel(writer: &Writer<'_>) -> Match {
    !port(writer.settings.tunnel_port)
}

fn not_dns_nor_tunnel(writer: &Writer<'_>) -> Match {
    let ports = vec![Port::RESOLVER.into(), writer.settings.tunnel_port.into()];
    !Match::from(Condition::DestinationPorts(ports))
}

fn outbound() -> RuleLocation {
    RuleLocation::append(TableName::Nat, ChainName::OUTBOUND)
}
