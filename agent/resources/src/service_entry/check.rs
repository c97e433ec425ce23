//! What fits together in a ServiceEntry.

use std::collections::HashSet;

use super::{Resolution, ServiceEntry, ServiceEntryPort};
use crate::{
    IpProtocol, Path, Protocol, WorkloadAddress,
    decode::Context,
    export_to::check_export_to,
    finding::{Problem, Rule},
};

pub(super) fn check(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    if entry.hosts.is_empty() || entry.hosts.len() > MOST_HOSTS {
        let problem = Problem::new("has a length out of range").found(entry.hosts.len());
        context.error(&at.field("hosts"), problem.expected(format!("1–{MOST_HOSTS} hosts")));
    }
    check_export_to(&entry.export_to, true, &at.field("exportTo"), context);
    check_ports(&entry.ports, at, context);
    check_selector(entry, at, context);
    check_addresses(entry, at, context);
    check_endpoint_ports(entry, at, context);
    match entry.resolution {
        Resolution::None => check_none(entry, at, context),
        Resolution::Static => check_static(entry, at, context),
        Resolution::Dns | Resolution::DnsRoundRobin => check_dns(entry, at, context),
        Resolution::DynamicDns => check_dynamic_dns(entry, at, context),
    }
    check_hosts_can_be_told_apart(entry, at, context);
}

const MOST_HOSTS: usize = 256;

fn check_ports(ports: &[ServiceEntryPort], at: &Path<'_>, context: &mut Context<'_>) {
    let list = at.field("ports");
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = list.index(index);
        if !names.insert(&port.name) {
            let problem = Problem::new("is the name of another port").found(&port.name);
            context.error(&at.field("name"), problem.expected("a name of its own"));
        }
        if !numbers.insert(port.number) {
            let problem = Problem::new("is a port of this ServiceEntry already").found(port.number);
            context.error(&at.field("number"), problem.expected("each port once"));
        }
    }
}

fn check_selector(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    let Some(_) = &entry.workload_selector else { return };
    let selector = at.field("workloadSelector");
    if !entry.endpoints.is_empty() {
        let problem = Problem::new("is written beside `endpoints`");
        context.error(&selector, problem.remedy("keep one of the two"));
    }
    if entry.resolution == Resolution::None {
        let problem = Problem::new("has no effect with resolution NONE");
        context.warning(Rule::Invalid, &selector, problem.remedy("use resolution STATIC"));
    }
}

fn check_addresses(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    let addresses = at.field("addresses");
    let ranges_allowed = matches!(entry.resolution, Resolution::None | Resolution::Static);
    for (index, address) in entry.addresses.iter().enumerate() {
        if !ranges_allowed && address.prefix_len() != address.max_prefix_len() {
            let problem = Problem::new(format!(
                "is a range, which resolution {} cannot serve",
                entry.resolution.name()
            ));
            context.error(
                &addresses.index(index),
                problem.found(address).expected("a single address, or resolution NONE or STATIC"),
            );
        }
    }
    let ports = at.field("ports");
    for (index, port) in entry.ports.iter().enumerate() {
        if entry.addresses.is_empty() && is_opaque(port) {
            let message = format!(
                "takes, at sidecars, every TCP connection to port {}, whatever its destination",
                port.number
            );
            context.warning(
                Rule::Invalid,
                &ports.index(index),
                Problem::new(message).remedy("add `addresses`"),
            );
        }
    }
}

/// Whether nothing but the address tells connections apart.
fn is_opaque(port: &ServiceEntryPort) -> bool {
    let opaque = |protocol: Protocol| !protocol.is_http() && !protocol.is_tls();
    port.transport == IpProtocol::Tcp && port.application_protocol().is_some_and(opaque)
}

fn check_endpoint_ports(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    let list = at.field("endpoints");
    let names: HashSet<&str> = entry.ports.iter().map(|port| port.name.as_str()).collect();
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let at = list.index(index);
        let ports = at.field("ports");
        for name in endpoint.ports.keys() {
            if !names.contains(name.as_str()) {
                let problem = Problem::new("is no port of this ServiceEntry").found(name);
                context.error(&ports.key(name), problem.expected("the name of one of `ports`"));
            }
        }
        if matches!(endpoint.address, Some(WorkloadAddress::Unix(_))) && entry.ports.len() != 1 {
            let problem = Problem::new("is a unix socket, but the ServiceEntry has several ports or none");
            context.error(&at.field("address"), problem.expected("one port"));
        }
    }
}

fn check_none(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    if !entry.endpoints.is_empty() {
        let problem = Problem::new("has no meaning with resolution NONE");
        context.error(&at.field("endpoints"), problem.remedy("use resolution STATIC or DNS"));
    }
}

fn check_static(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
        let problem = Problem::new("lists endpoints, but there are none, so requests are answered 503");
        let problem =
            problem.found("STATIC").remedy("add `endpoints` or a `workloadSelector`, or use resolution DNS");
        context.warning(Rule::Invalid, &at.field("resolution"), problem);
    }
    let list = at.field("endpoints");
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        if let Some(WorkloadAddress::Name(name)) = &endpoint.address {
            let problem = Problem::new("is a name, which resolution STATIC does not look up").found(name);
            context.error(
                &list.index(index).field("address"),
                problem.expected("an IP address or a unix socket, or resolution DNS"),
            );
        }
    }
}

fn check_dns(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    let name = entry.resolution.name();
    let (hosts, list) = (at.field("hosts"), at.field("endpoints"));
    if entry.endpoints.is_empty() && entry.workload_selector.is_none() {
        for (index, host) in entry.hosts.iter().enumerate().filter(|(_, host)| host.starts_with('*')) {
            let problem =
                Problem::new(format!("is a wildcard, which resolution {name} cannot look up")).found(host);
            context.error(&hosts.index(index), problem.expected("a host name, or `endpoints` to look up"));
        }
    }
    if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
        let problem = Problem::new(format!("has several items with resolution {name}"));
        context.error(&list, problem.expected("one endpoint, or resolution DNS"));
    }
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        if let Some(WorkloadAddress::Unix(path)) = &endpoint.address {
            let problem = Problem::new(format!("is a unix socket, which resolution {name} cannot look up"));
            context.error(
                &list.index(index).field("address"),
                problem.found(path).expected("a host name or an IP address"),
            );
        }
    }
}

fn check_dynamic_dns(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    for (written, name) in [
        (!entry.addresses.is_empty(), "addresses"),
        (!entry.endpoints.is_empty(), "endpoints"),
        (entry.workload_selector.is_some(), "workloadSelector"),
    ] {
        if written {
            let problem = Problem::new("has no meaning with resolution DYNAMIC_DNS");
            context.error(&at.field(name), problem.remedy("remove it"));
        }
    }
    let hosts = at.field("hosts");
    for (index, host) in entry.hosts.iter().enumerate().filter(|(_, host)| !host.starts_with('*')) {
        let problem = Problem::new("is no wildcard").found(host);
        context.error(&hosts.index(index), problem.expected("`*.suffix`, or resolution DNS"));
    }
    let ports = at.field("ports");
    for (index, port) in entry.ports.iter().enumerate() {
        let named = port.protocol.is_some_and(|protocol| {
            matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls)
        });
        if !named {
            let problem = Problem::new("does not carry the name to look up");
            context
                .error(&ports.index(index).field("protocol"), problem.expected("HTTP, HTTP2, GRPC or TLS"));
        }
    }
}

fn check_hosts_can_be_told_apart(entry: &ServiceEntry, at: &Path<'_>, context: &mut Context<'_>) {
    if entry.hosts.len() < 2 || entry.resolution == Resolution::None {
        return;
    }
    let named = |protocol: Protocol| protocol.is_http() || protocol.is_tls();
    let nameless = entry.ports.iter().position(|port| !port.application_protocol().is_some_and(named));
    if let Some(index) = nameless {
        let problem = Problem::new("is for several hosts, which this protocol does not tell apart");
        context.error(
            &at.field("ports").index(index),
            problem.expected("HTTP or TLS, or a ServiceEntry for each host"),
        );
    }
}
