//! One line for a cluster: its endpoints and whatever is not as Istio has it without a DestinationRule.

use std::fmt::{Debug, Write};

use snapshot::{
    Cluster, Connections, Discovery, DnsName, Endpoint, Limits, LoadBalancer, LocalityEndpoints,
    OutlierDetection, ServerCheck, UpstreamProtocol, UpstreamTls,
};

pub(crate) fn cluster(cluster: &Cluster) -> String {
    let mut text = match &cluster.discovery {
        Discovery::OriginalDestination => format!("{} original-destination", cluster.name),
        Discovery::DynamicDns(dynamic) => {
            let own = if dynamic.begins_tls { "its own port, 443 for 80" } else { "its own port" };
            let port = dynamic.port.map_or(own.to_owned(), |port| port.to_string());
            format!("{} dynamic dns [{}:{port}]", cluster.name, dynamic.hosts)
        }
        Discovery::Dns(dns) => {
            let names: Vec<_> = dns.names.iter().map(name).collect();
            format!("{} {:?} dns [{}]", cluster.name, dns.resolution, names.join(" "))
        }
        Discovery::Endpoints(localities) => {
            let shown: Vec<String> = localities.iter().map(locality).collect();
            format!("{} [{}]", cluster.name, shown.join(" | "))
        }
    };
    if let Some(source) = cluster.source {
        write!(text, " from {} {}", source.v4, source.v6).unwrap();
    }
    // Those of others have it in their names.
    if let Some(service) = cluster.service.as_ref().filter(|_| cluster.name.starts_with("inbound|")) {
        write!(text, " of {} ({}/{})", service.host, service.namespace, service.name).unwrap();
    }
    if cluster.connect_timeout.as_secs() != 10 {
        write!(text, " connect={:?}", cluster.connect_timeout).unwrap();
    }
    if cluster.protocol != UpstreamProtocol::Http1 {
        write!(text, " {:?}", cluster.protocol).unwrap();
    }
    if cluster.load_balancer != LoadBalancer::default() {
        write!(text, " {:?}", cluster.load_balancer).unwrap();
    }
    if cluster.limits != Limits::default() {
        text.push_str(&changed("Limits", &cluster.limits, &Limits::default()));
    }
    if cluster.connections != Connections::default() {
        text.push_str(&changed("Connections", &cluster.connections, &Connections::default()));
    }
    let default = OutlierDetection::default();
    text.extend(cluster.outlier_detection.as_ref().map(|own| changed("Outliers", own, &default)));
    text.extend(cluster.proxy_protocol.map(|version| format!(" PROXY {version:?}")));
    text.extend(
        cluster
            .tunnel
            .as_ref()
            .map(|tunnel| format!(" through {} by {}", tunnel.far_end, tunnel.method.as_str())),
    );
    text.extend(cluster.tls.as_ref().map(|settings| tls(settings)));
    text.extend(cluster.destination_rule.as_ref().map(|rule| format!(" by {rule}")));
    text
}

/// The fields that differ, as their `Debug` text has them.
fn changed<T: Debug>(name: &str, value: &T, default: &T) -> String {
    let (value, default) = (format!("{value:?}"), format!("{default:?}"));
    let (fields, defaults) = (fields(&value), fields(&default));
    let different = fields.into_iter().filter(|field| !defaults.contains(field));
    format!(" {name}({})", different.collect::<Vec<_>>().join(", "))
}

/// The outermost fields of `Name { a: 1, b: Some(C { d: 2 }) }`.
fn fields(text: &str) -> Vec<&str> {
    let inner = text.split_once('{').map_or("", |(_, inner)| inner.trim_end_matches('}'));
    let mut depth = 0;
    let at_top = |c: char| {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    inner.split(at_top).map(str::trim).collect()
}

fn name(name: &DnsName) -> String {
    let mut text = format!("{}:{}", name.host, name.port);
    if name.priority > 0 {
        write!(text, " (priority {})", name.priority).unwrap();
    }
    text.extend(name.locality_weight.map(|weight| format!(" (*{weight})")));
    text
}

fn locality(group: &LocalityEndpoints) -> String {
    let mut text = String::new();
    let place = &group.locality;
    if group.priority > 0 {
        write!(text, "priority {} ", group.priority).unwrap();
    }
    if !(place.region.is_empty() && place.zone.is_empty()) {
        write!(text, "{}/{}/{} ", place.region, place.zone, place.sub_zone).unwrap();
    }
    text.extend(group.weight.map(|weight| format!("*{weight} ")));
    let endpoints: Vec<String> = group.endpoints.iter().map(endpoint).collect();
    text + &endpoints.join(" ")
}

fn endpoint(endpoint: &Endpoint) -> String {
    match endpoint.weight {
        1 => endpoint.address.to_string(),
        weight => format!("{}*{weight}", endpoint.address),
    }
}

fn tls(tls: &UpstreamTls) -> String {
    let mut text = format!(" tls({:?}, {:?}", tls.endpoints, tls.server_name);
    match &tls.check {
        ServerCheck::Nobody(reason) => write!(text, ", nobody: {reason}").unwrap(),
        ServerCheck::Unverified => text.push_str(", unverified"),
        ServerCheck::System(names) => write!(text, ", system {names:?}").unwrap(),
        ServerCheck::Authority(authority, names) => {
            let usable = if authority.bundle.is_some() { "" } else { "?" };
            write!(text, ", {}{usable} {names:?}", authority.name).unwrap();
        }
    }
    if let Some(credential) = &tls.credential {
        let usable = if credential.certificate.is_some() { "" } else { "?" };
        write!(text, ", shows {}{usable}", credential.name).unwrap();
    }
    let of_mesh = if tls.of_mesh { ", of mesh" } else { "" };
    format!("{text}{of_mesh})")
}
