//! DNS capture: queries go to the proxy, and connection tracking keeps the two legs apart.
//!
//! Without zones, a source port that both the application and the proxy happen to use towards the same resolver
//! collides in connection tracking, and the query skips the proxy.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Writer, destination, port, proxy_owners, source, source_port, udp};
use crate::build::tcp;
use crate::ports::{Port, ZONE_APPLICATION_PROXY, ZONE_PROXY_RESOLVER};
use crate::program::RuleLocation;
use crate::purpose::Purpose;
use crate::ruleset::{ChainName, Family, Match, Rule, TableName, Target};
use crate::settings::DnsCapture;

/// Captures queries to the resolvers, or to any server.
pub(super) fn capture(writer: &mut Writer<'_>) {
    if !writer.dns_is_active() {
        return;
    }
    let enter = Rule::new([], Target::Jump(ChainName::OUTBOUND_DNS)).because(Purpose::EnterDns);
    writer.every(&RuleLocation::append(TableName::Raw, ChainName::OUTPUT), &enter);
    for family in Family::BOTH {
        if !servers(writer, family).is_empty() {
            writer.only(family, RuleLocation::append(TableName::Nat, ChainName::OUTBOUND), enter.clone());
        }
    }
    redirect(writer);
    zones_of_the_proxy(writer);
    zones_of_the_application(writer);
}

/// A resolver to capture: its address, or none for any.
type Server = Option<IpNet>;

fn servers(writer: &Writer<'_>, family: Family) -> Vec<Server> {
    if writer.settings.dns == DnsCapture::All {
        return vec![None];
    }
    let net = |address: &IpAddr| IpNet::from(*address);
    writer.facts.dns_servers.iter().map(net).filter(|net| family.has(net)).map(Some).collect()
}

fn redirect(writer: &mut Writer<'_>) {
    for family in Family::BOTH {
        for protocol in [tcp(), udp()] {
            for server in servers(writer, family) {
                let mut matches = vec![protocol.clone(), port(Port::RESOLVER)];
                matches.extend(server.map(destination));
                let rule = Rule::new(matches, Target::Redirect(Port::DNS)).because(Purpose::ToDnsPort);
                writer.only(family, RuleLocation::append(TableName::Nat, ChainName::OUTBOUND_DNS), rule);
            }
        }
    }
}

fn zones_of_the_proxy(writer: &mut Writer<'_>) {
    for owner in proxy_owners(writer.settings) {
        let to_resolver = proxy_resolver(vec![udp(), port(Port::RESOLVER), owner.clone()]);
        writer.every(&raw_outbound(), &to_resolver);
        let to_application = application_proxy(vec![udp(), source_port(Port::DNS), owner]);
        writer.every(&raw_outbound(), &to_application);
    }
}

fn zones_of_the_application(writer: &mut Writer<'_>) {
    for family in Family::BOTH {
        let servers = servers(writer, family);
        if servers.is_empty() {
            continue;
        }
        let enter = Rule::new([], Target::Jump(ChainName::INBOUND)).because(Purpose::EnterDns);
        writer.only(family, RuleLocation::append(TableName::Raw, ChainName::PREROUTING), enter);
        for server in servers {
            let mut query = vec![udp(), port(Port::RESOLVER)];
            query.extend(server.map(destination));
            writer.only(family, raw_outbound(), application_proxy(query));
            let mut answer = vec![udp(), source_port(Port::RESOLVER)];
            answer.extend(server.map(source));
            let inbound = RuleLocation::append(TableName::Raw, ChainName::INBOUND);
            writer.only(family, inbound, proxy_resolver(answer));
        }
    }
}

fn proxy_resolver(matches: Vec<Match>) -> Rule {
    Rule::new(matches, Target::Zone(ZONE_PROXY_RESOLVER)).because(Purpose::ProxyResolverZone)
}

fn application_proxy(matches: Vec<Match>) -> Rule {
    Rule::new(matches, Target::Zone(ZONE_APPLICATION_PROXY)).because(Purpose::ApplicationProxyZone)
}

fn raw_outbound() -> RuleLocation {
    RuleLocation::append(TableName::Raw, ChainName::OUTBOUND_DNS)
}
