//! Which servers a gateway listens with, on which real ports, and which of them lose a conflict.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use resources::{
    Finding, GatewayRef, L4Match, Object, Path, Place, Problem, ResourceSet, Rule, Server, ServerTls,
    Severity, TlsMode,
};

use snapshot::{Binding, ForeignGateway, UnixPath};

use super::attach::{Attached, Attachments};
use crate::{
    credentials::Unusable,
    draft::{address_name, wildcard},
    proxy::Proxy,
    registry::{KnownService, Registry},
};

/// A server of a Gateway that selects this proxy.
#[derive(Debug)]
pub(crate) struct SelectedServer<'s> {
    pub(crate) gateway: &'s Object<resources::Gateway>,
    /// Position in `spec.servers`.
    pub(crate) index: usize,
    /// The Gateway as VirtualServices name it.
    pub(crate) reference: GatewayRef,
    /// VirtualServices in the order in which their rules count.
    pub(crate) attached: Vec<Attached<'s>>,
}

impl<'s> SelectedServer<'s> {
    pub(crate) fn server(&self) -> &'s Server {
        &self.gateway.spec.servers[self.index]
    }

    /// The port as written: VirtualServices match it and virtual hosts are named after it.
    pub(crate) fn declared_port(&self) -> u16 {
        self.server().port.number
    }

    /// What becomes of TLS, and how.
    pub(crate) fn tls(&self) -> &'s ServerTls {
        self.gateway.spec.servers[self.index].tls.as_ref().unwrap_or(&PASSTHROUGH)
    }

    /// What becomes of TLS; passed through when nothing is said.
    pub(crate) fn tls_mode(&self) -> TlsMode {
        self.tls().mode
    }

    /// Whether a match of a rule for connections is for this server.
    pub(crate) fn fits(&self, matches: &L4Match) -> bool {
        let port = matches.port.is_none_or(|port| port == self.declared_port());
        port && (matches.gateways.is_empty() || matches.gateways.contains(&self.reference))
    }

    /// Whether clear-text requests are redirected to https.
    pub(crate) fn redirects_to_https(&self) -> bool {
        self.server().port.protocol.is_http()
            && self.server().tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// Where it is written.
    pub(crate) fn place(&self) -> Place {
        let spec = Path::ROOT.field("spec");
        let servers = spec.field("servers");
        self.gateway.meta.place_of(&servers.index(self.index))
    }

    /// A finding about one of `hosts`.
    pub(crate) fn host_finding(&self, rule: Rule, host: usize, problem: Problem) -> Finding {
        let spec = Path::ROOT.field("spec");
        let servers = spec.field("servers");
        let at = servers.index(self.index);
        let hosts = at.field("hosts");
        self.gateway.meta.finding(Severity::Warning, rule, &hosts.index(host), problem)
    }

    /// A finding about the server's certificate, or for want of one.
    pub(crate) fn credential_finding(&self, severity: Severity, unusable: Unusable) -> Finding {
        let spec = Path::ROOT.field("spec");
        let servers = spec.field("servers");
        let at = servers.index(self.index);
        let tls = at.field("tls");
        self.gateway.meta.finding(severity, unusable.rule, &tls.field(unusable.field), unusable.problem)
    }

    /// A finding about a field of the server.
    pub(crate) fn finding(&self, rule: Rule, field: &str, problem: Problem) -> Finding {
        let spec = Path::ROOT.field("spec");
        let servers = spec.field("servers");
        let at = servers.index(self.index);
        let at = if field.is_empty() { at } else { at.field(field) };
        self.gateway.meta.finding(Severity::Warning, rule, &at, problem)
    }
}

/// What is meant when nothing is said.
static PASSTHROUGH: std::sync::LazyLock<ServerTls> = std::sync::LazyLock::new(ServerTls::default);

/// Where a gateway really listens.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Address<'s> {
    /// 0 of a unix socket.
    port: u16,
    bind: Bind<'s>,
}

/// What a gateway's socket is bound to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Bind<'s> {
    /// Every address.
    Any,
    Ip(IpAddr),
    /// A path, or `@` and a name.
    Unix(&'s str),
}

impl Bind<'_> {
    /// What names of tables end with.
    fn suffix(self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Ip(ip) => format!(".{ip}"),
            Self::Unix(path) => format!(".{path}"),
        }
    }
}

impl Address<'_> {
    pub(crate) fn port(self) -> u16 {
        self.port
    }

    pub(crate) fn binding(self) -> Binding {
        match self.bind {
            Bind::Any => Binding::Socket(wildcard(self.port)),
            Bind::Ip(ip) => Binding::Socket(SocketAddr::new(ip, self.port)),
            Bind::Unix(path) => Binding::Unix(UnixPath::new(path)),
        }
    }

    /// `0.0.0.0_<port>`, `<bind>_<port>`, or the path and `_0`, as Istio names them.
    pub(crate) fn listener_name(self) -> String {
        match self.bind {
            Bind::Any => address_name(wildcard(self.port)),
            Bind::Ip(ip) => address_name(SocketAddr::new(ip, self.port)),
            Bind::Unix(path) => format!("{path}_0"),
        }
    }

    /// In messages.
    fn in_words(self) -> String {
        match self.bind {
            Bind::Any | Bind::Ip(_) => format!("port {}", self.port),
            Bind::Unix(path) => format!("the unix socket {path}"),
        }
    }

    /// `https.<declared port>.<port name>.<gateway>.<namespace>[.<bind>]`: each server has a table of its own.
    pub(crate) fn server_table_name(self, server: &SelectedServer<'_>) -> String {
        let (port, meta) = (&server.server().port, &server.gateway.meta);
        let name = format!("https.{}.{}.{}.{}", port.number, port.name, meta.name(), meta.namespace());
        name + &self.bind.suffix()
    }

    /// `http.<port>[.<bind>]`.
    pub(crate) fn table_name(self) -> String {
        format!("http.{}{}", self.port, self.bind.suffix())
    }
}

/// The servers that share a real port.
#[derive(Debug)]
pub(crate) struct PortServers<'s> {
    pub(crate) spoken: Spoken,
    pub(crate) servers: Vec<SelectedServer<'s>>,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spoken {
    /// Clear-text HTTP; any number of servers share the port.
    Http,
    /// TLS, terminated here or not; servers share the port, told apart by server name.
    Tls,
    /// Bytes; one server has the port.
    Opaque,
}

/// The servers by address, those left out that cannot be served or lose a conflict.
pub(crate) fn by_port<'s>(
    servers: Vec<SelectedServer<'s>>,
    registry: &Registry<'_>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Address<'s>, PortServers<'s>> {
    let mut ports: BTreeMap<Address<'s>, PortServers<'s>> = BTreeMap::new();
    for selected in servers {
        let Some(address) = address(&selected, registry, findings) else { continue };
        let spoken = spoken(&selected);
        match ports.get_mut(&address) {
            None => _ = ports.insert(address, PortServers { spoken, servers: vec![selected] }),
            Some(port) if port.spoken == spoken && spoken != Spoken::Opaque => {
                port.servers.push(selected);
            }
            Some(port) => findings.push(conflict(&selected, &port.servers[0], address)),
        }
    }
    ports
}

/// The servers of all Gateways that select the proxy, in the order in which they count: Gateways by age, servers as
/// written.
pub(crate) fn selected<'s>(
    resources: &'s ResourceSet,
    attachments: &Attachments<'s>,
    proxy: &Proxy,
) -> Vec<SelectedServer<'s>> {
    let servers = |gateway: &'s Arc<Object<resources::Gateway>>| {
        let reference = super::reference(gateway);
        let server = move |(index, server)| {
            let attached = attachments.of(server, &reference);
            SelectedServer { gateway, index, reference: reference.clone(), attached }
        };
        gateway.spec.servers.iter().enumerate().map(server)
    };
    let chosen = resources.gateways().iter().filter(|gateway| selects(gateway, proxy));
    chosen.flat_map(servers).collect()
}

/// Whether the Gateway is for this proxy.
pub(super) fn selects(gateway: &Object<resources::Gateway>, proxy: &Proxy) -> bool {
    let labels = gateway.spec.selector.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
    labels && (!proxy.mesh.scope_gateways_to_namespace || gateway.meta.namespace() == proxy.namespace)
}

/// The Gateways that are for other proxies, each with the reason.
pub(crate) fn foreign(resources: &ResourceSet, proxy: &Proxy) -> impl Iterator<Item = ForeignGateway> {
    let others = resources.gateways().iter().filter(|gateway| !selects(gateway, proxy));
    others.map(|gateway| {
        let wanted = gateway.spec.selector.iter().find(|(key, value)| proxy.labels.get(*key) != Some(value));
        let because = match wanted {
            Some((key, value)) => match proxy.labels.get(key) {
                Some(own) => format!("it selects proxies with {key}={value}, and this one has {key}={own}"),
                None => format!("it selects proxies with {key}={value}, and this one has no label {key}"),
            },
            None => format!("it counts in namespace {} only", gateway.meta.namespace()),
        };
        let ports = gateway.spec.servers.iter().map(|server| server.port.number).collect();
        ForeignGateway { name: gateway.meta.id.to_string(), ports, because }
    })
}

/// Says of every Gateway that it selects other proxies: worth saying when none selects this one.
pub(crate) fn not_selected(resources: &ResourceSet, proxy: &Proxy) -> Vec<Finding> {
    let pairs = |labels: &resources::Labels| {
        let pairs: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if pairs.is_empty() { "none".to_owned() } else { pairs.join(",") }
    };
    let spec = Path::ROOT.field("spec");
    let finding = |gateway: &Arc<Object<resources::Gateway>>| {
        let problem = Problem::new("does not select this proxy, and no other Gateway does")
            .found(format!("this proxy's labels: {}", pairs(&proxy.labels)))
            .expected(pairs(&gateway.spec.selector))
            .remedy("start it with these --labels");
        gateway.meta.finding(Severity::Warning, Rule::UnknownReference, &spec.field("selector"), problem)
    };
    resources.gateways().iter().map(finding).collect()
}

/// What is spoken on the server's port.
fn spoken(server: &SelectedServer<'_>) -> Spoken {
    match server.server().port.protocol {
        protocol if protocol.is_tls() => Spoken::Tls,
        protocol if protocol.is_http() => Spoken::Http,
        _ => Spoken::Opaque,
    }
}

/// Where the server really listens: where the Services of this workload lead its port.
fn address<'s>(
    selected: &SelectedServer<'s>,
    registry: &Registry<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Address<'s>> {
    let written = selected.gateway.spec.servers[selected.index].bind.as_deref();
    if let Some(path) = written.and_then(resources::unix_path) {
        return Some(Address { bind: Bind::Unix(path), port: 0 });
    }
    let bind = written.and_then(|bind| bind.parse::<IpAddr>().ok());
    let bind = bind.filter(|ip| *ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let declared = selected.declared_port();
    let port = real_port(declared, registry);
    if let Some((_, flag)) = registry.proxy.own_ports.iter().find(|(own, _)| clash(*own, (bind, port))) {
        findings.push(taken(selected, port, flag));
        return None;
    }
    if port < FIRST_UNPRIVILEGED && port == declared {
        findings.extend(unmapped(selected, registry));
    }
    Some(Address { bind: bind.map_or(Bind::Any, Bind::Ip), port })
}

/// Whether a listener at a port, of one address or of all, would meet another one.
fn clash(own: SocketAddr, (bind, port): (Option<IpAddr>, u16)) -> bool {
    own.port() == port && bind.is_none_or(|bind| own.ip().is_unspecified() || own.ip() == bind)
}

/// Says that the proxy needs the port for itself.
fn taken(selected: &SelectedServer<'_>, port: u16, flag: &str) -> Finding {
    let problem = Problem::new(format!("is a port of the proxy itself ({flag}): the server is left out"))
        .found(port)
        .remedy(format!(
            "choose another port, lead the Service's `targetPort` to one, or give the proxy another by {flag}"
        ));
    let finding = selected.finding(Rule::Conflict, "port", problem);
    Finding { severity: Severity::Error, ..finding }
}

/// Listening below it takes a privilege.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Says that the Services in front of this gateway leave out a low port. One that leads it to itself means it.
fn unmapped(selected: &SelectedServer<'_>, registry: &Registry<'_>) -> Option<Finding> {
    let declared = selected.declared_port();
    let first = in_front(registry).next()?.meta();
    if in_front(registry).any(|service| service.port(declared).is_some()) {
        return None;
    }
    let problem = Problem::new(
        "is in no Service in front of this gateway, so that it is listened on as it is, which takes \
         CAP_NET_BIND_SERVICE",
    );
    let remedy = format!("add it to {} ({}), with a `targetPort` of 1024 or more", first.id, first.place());
    let (at, problem) = ("port", problem.found(declared).remedy(remedy));
    Some(selected.finding(Rule::UnknownReference, at, problem))
}

const NO_TRANSLATION_LABEL: &str = "experimental.istio.io/disable-gateway-port-translation";

/// The target port of the oldest Service of this workload that has the declared port, else the declared port.
fn real_port(declared: u16, registry: &Registry<'_>) -> u16 {
    let target = in_front(registry).find_map(|service| {
        let port = service.port(declared)?;
        service.target_port(port, &registry.proxy.ips)
    });
    target.unwrap_or(declared)
}

/// The Services of this workload that say where its ports lead.
fn in_front<'r, 's>(registry: &'r Registry<'s>) -> impl Iterator<Item = &'r KnownService<'s>> {
    let translates =
        |labels: &resources::Labels| labels.get(NO_TRANSLATION_LABEL).is_none_or(|value| value != "true");
    registry.of_workload().filter(move |service| translates(&service.meta().labels))
}

fn conflict(loser: &SelectedServer<'_>, winner: &SelectedServer<'_>, address: Address<'_>) -> Finding {
    let (meta, place) = (&winner.gateway.meta, winner.place());
    let (place_shared, protocol) = (address.in_words(), winner.server().port.protocol);
    let problem = Problem::new(format!(
        "cannot share {place_shared} with server `{}` of {} ({place}), which comes first and speaks {protocol}: \
         the server is left out",
        winner.server().port.name,
        meta.id,
    ));
    loser.finding(
        Rule::Conflict,
        "port",
        problem.found(loser.server().port.protocol).remedy("use another port"),
    )
}
