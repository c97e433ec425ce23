//! Why candidates were taken or not, in words.

use std::{fmt::Display, net::SocketAddr};

use super::{Entry, Rejected, SHOWN};
use crate::{
    Application, Binding, ConnectionFacts, FilterChainMatch, HeaderMatch, HostName, HostPattern, Listener,
    Mismatch, PathMatch, RequestHead, Route, RouteConfig, RouteMatch, Snapshot, TextMatch, Transport,
    VirtualHost,
};

pub(super) fn captured(listener: &Listener, to: SocketAddr) -> String {
    match listener.binding {
        Binding::Captured(at) if at.ip().is_unspecified() => {
            format!("no listener is for {to} itself; this one is for its port on every address")
        }
        _ => format!("it is for {to}"),
    }
}

pub(super) fn no_listener(entry: Entry) -> String {
    match entry {
        Entry::Port(port) => format!("nothing listens on port {port}"),
        Entry::Outbound(_) => "this proxy captures nothing outbound".to_owned(),
        Entry::Inbound(_) => "this proxy captures nothing inbound".to_owned(),
    }
}

pub(super) fn other_listener(listener: &Listener) -> Rejected {
    let bound = match (&listener.binding, listener.binding.address()) {
        (Binding::Unix(path), _) => format!("it is bound to the unix socket {path}"),
        (_, at) => format!("it is bound to port {}", at.map_or(0, |at| at.port())),
    };
    Rejected { name: listener.name.clone(), because: bound }
}

/// The first condition of a chain that a connection does not fulfil.
pub(super) fn chain(conditions: &FilterChainMatch, facts: &ConnectionFacts<'_>) -> String {
    if let Some(port) = conditions.destination_port.filter(|port| *port != facts.destination.port()) {
        return format!("for connections to port {port}");
    }
    let subnets = &conditions.destination_subnets;
    let destination = facts.destination.ip().to_canonical();
    if !subnets.is_empty() && !subnets.iter().any(|subnet| subnet.contains(&destination)) {
        return format!("for connections to {}, not to {destination}", list(subnets));
    }
    let name = facts.server_name.map(HostName::of_authority);
    let name = name.as_ref().map_or("", HostName::as_str);
    if !conditions.server_names.is_empty() && !conditions.server_names.iter().any(|p| p.covers(name)) {
        let names = list(&conditions.server_names);
        return match facts.server_name {
            Some(name) => format!("for server names {names}, not `{name}`"),
            None => format!("for server names {names}, and the client names none"),
        };
    }
    if conditions.transport.is_some_and(|wanted| wanted != facts.transport) {
        return match conditions.transport {
            Some(Transport::Tls) => "for TLS, and this is clear text".to_owned(),
            _ => "for clear text, and this is TLS".to_owned(),
        };
    }
    if conditions.application.is_some_and(|wanted| wanted != facts.application) {
        return match conditions.application {
            Some(Application::Http) => "for clear-text HTTP".to_owned(),
            Some(Application::Mesh | Application::MeshHttp) => {
                "for proxies of the mesh, which offer Istio's protocols in their TLS hello".to_owned()
            }
            _ => "for bytes that are no HTTP".to_owned(),
        };
    }
    "a more specific chain accepts the connection".to_owned()
}

/// The conditions of a chain, all of which hold.
pub(super) fn chain_conditions(conditions: &FilterChainMatch) -> String {
    let mut parts = Vec::new();
    if let Some(port) = conditions.destination_port {
        parts.push(format!("to port {port}"));
    }
    if !conditions.destination_subnets.is_empty() {
        parts.push(format!("to an address in {}", list(&conditions.destination_subnets)));
    }
    if !conditions.server_names.is_empty() {
        parts.push(format!("server name among {}", list(&conditions.server_names)));
    }
    match conditions.transport {
        Some(Transport::Tls) => parts.push("TLS".to_owned()),
        Some(Transport::RawBuffer) => parts.push("clear text".to_owned()),
        None => {}
    }
    match conditions.application {
        Some(Application::Http) => parts.push("the bytes look like HTTP".to_owned()),
        Some(Application::Opaque) => parts.push("the bytes are no HTTP".to_owned()),
        Some(Application::Mesh | Application::MeshHttp) => {
            parts.push("the client is a proxy of the mesh".to_owned());
        }
        None => {}
    }
    if parts.is_empty() { "it accepts every connection".to_owned() } else { parts.join(", ") }
}

fn list<T: Display>(patterns: &[T]) -> String {
    let shown = patterns.iter().take(SHOWN).map(|pattern| format!("`{pattern}`"));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if patterns.len() > SHOWN {
        text.push_str(&format!(" and {} more", patterns.len() - SHOWN));
    }
    text
}

/// By which of its domains a host serves an authority.
pub(super) fn host(host: &VirtualHost, authority: &str) -> String {
    match best_domain(host, authority) {
        Some(HostPattern::Exact(name)) => format!("its domain `{name}` is the name asked for"),
        Some(HostPattern::Any) => "no host has the name, and its domain `*` takes every other".to_owned(),
        Some(suffix) => {
            format!("no host has the very name, and its domain `{suffix}` is the longest that covers it")
        }
        None => "it serves the name".to_owned(),
    }
}

fn best_domain<'h>(host: &'h VirtualHost, authority: &str) -> Option<&'h HostPattern> {
    let name = HostName::of_authority(authority);
    let covering = host.domains.iter().filter(|domain| domain.covers(name.as_str()));
    covering.max_by_key(|domain| match domain {
        HostPattern::Exact(_) => usize::MAX,
        HostPattern::Suffix(suffix) => suffix.len(),
        HostPattern::Any => 0,
    })
}

/// Hosts that would also serve the name.
pub(super) fn less_specific_hosts(
    config: &RouteConfig,
    chosen: &VirtualHost,
    authority: &str,
) -> Vec<Rejected> {
    let others = config.virtual_hosts().iter().filter(|host| !std::ptr::eq(*host, chosen));
    let covering = others.filter_map(|host| Some((host, best_domain(host, authority)?)));
    covering
        .take(SHOWN)
        .map(|(host, domain)| Rejected {
            name: host.name.clone(),
            because: format!("its domain `{domain}` is less specific, or comes later"),
        })
        .collect()
}

/// The VirtualServices that would have a host served, and the service that has it, with why they do not count.
pub(super) fn not_here(snapshot: &Snapshot, authority: &str) -> impl Iterator<Item = Rejected> {
    let asked = HostName::of_authority(authority);
    let hidden = snapshot.hidden_services().and_then(|hidden| hidden.called(asked.as_str()));
    let wanted = snapshot.unserved_rules().iter();
    let wanted = wanted.filter(move |rules| rules.hosts.iter().any(|host| host.covers(asked.as_str())));
    let wanted =
        wanted.map(|rules| Rejected { name: rules.name.clone(), because: rules.because.to_string() });
    wanted.chain(hidden)
}

/// Whether a host is for this name and no other.
pub(super) fn has_the_very_name(host: &VirtualHost, authority: &str) -> bool {
    matches!(best_domain(host, authority), Some(HostPattern::Exact(_)))
}

pub(super) fn other_host(host: &VirtualHost) -> Rejected {
    Rejected { name: host.name.clone(), because: format!("for {}", list(&host.domains)) }
}

/// A route's name, or its number in the virtual host, counted from 1.
pub(super) fn route_name(host: &VirtualHost, route: &Route) -> String {
    let number = host.routes.iter().position(|other| std::ptr::eq(other, route)).map_or(0, |index| index + 1);
    match &route.name {
        Some(name) => format!("#{number} `{name}`"),
        None => format!("#{number}"),
    }
}

/// The routes tried before the chosen one, or all of them.
pub(super) fn earlier_routes(
    host: &VirtualHost,
    chosen: Option<&Route>,
    request: &impl RequestHead,
    over_tls: bool,
) -> Vec<Rejected> {
    let tried =
        host.routes.iter().take_while(|route| chosen.is_none_or(|chosen| !std::ptr::eq(*route, chosen)));
    let failed = tried.filter_map(|route| Some((route, route.matches.mismatch(request, over_tls)?)));
    failed
        .take(SHOWN)
        .map(|(route, failure)| Rejected {
            name: route_name(host, route),
            because: format!("{} ({})", mismatch(&failure, request), conditions(&route.matches)),
        })
        .collect()
}

fn mismatch(failure: &Mismatch<'_>, request: &impl RequestHead) -> String {
    match failure {
        Mismatch::Path(_) => format!("the path is `{}`", request.path()),
        Mismatch::Scheme(_) => "the scheme is another".to_owned(),
        Mismatch::Method(_) => format!("the method is `{}`", request.method()),
        Mismatch::Authority(_) => format!("the authority is `{}`", request.authority()),
        Mismatch::Header(header) => match request.header(&header.name) {
            Some(value) => format!("header `{}` is `{}`", header.name, String::from_utf8_lossy(value)),
            None => format!("header `{}` is missing", header.name),
        },
        Mismatch::QueryParam(param) => format!("query parameter `{}` does not fit", param.name),
    }
}

/// The conditions of a route in words.
pub(super) fn conditions(conditions: &RouteMatch) -> String {
    let mut parts = Vec::new();
    match &conditions.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => parts.push(format!("path exactly `{}`", path.text)),
        PathMatch::Prefix(path) => parts.push(format!("path prefix `{}`", path.text)),
        PathMatch::Regex(pattern) => parts.push(format!("path regex `{}`", pattern.source())),
    }
    let named = [
        ("scheme", &conditions.scheme),
        ("method", &conditions.method),
        ("authority", &conditions.authority),
    ];
    parts.extend(named.into_iter().filter_map(|(name, wanted)| Some(text_match(name, wanted.as_ref()?))));
    parts.extend(conditions.headers.iter().map(header_match));
    let params = conditions.query_params.iter();
    parts.extend(
        params.map(|param| text_match(&format!("query parameter `{}`", param.name), &param.condition)),
    );
    if parts.is_empty() { "takes every request".to_owned() } else { format!("wants {}", parts.join(", ")) }
}

fn header_match(header: &HeaderMatch) -> String {
    let condition = text_match(&format!("header `{}`", header.name), &header.condition);
    if header.invert { format!("not {condition}") } else { condition }
}

fn text_match(name: &str, condition: &TextMatch) -> String {
    match condition {
        TextMatch::Present => format!("{name} present"),
        TextMatch::Exact(text) => format!("{name} exactly `{text}`"),
        TextMatch::Prefix(text) => format!("{name} prefix `{text}`"),
        TextMatch::Regex(pattern) => format!("{name} regex `{}`", pattern.source()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_told_as_conditions_and_as_reasons() {
        let subnets = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let conditions = FilterChainMatch { destination_subnets: subnets, ..FilterChainMatch::default() };
        let to = |destination: &str| {
            let (transport, application) = (Transport::RawBuffer, Application::Opaque);
            let destination = destination.parse().unwrap();
            chain(&conditions, &ConnectionFacts { destination, server_name: None, transport, application })
        };
        assert_eq!(chain_conditions(&conditions), "to an address in `10.0.0.0/8`, `fd00::/8`");
        assert_eq!(to("11.0.0.1:80"), "for connections to `10.0.0.0/8`, `fd00::/8`, not to 11.0.0.1");
        assert_eq!(to("[::ffff:10.0.0.1]:80"), "a more specific chain accepts the connection");
    }
}
