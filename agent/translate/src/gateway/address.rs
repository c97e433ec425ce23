//! Where a gateway really listens: what its Services make of the ports of its servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use resources::{Finding, Problem, Rule, Severity};
use snapshot::{Binding, UnixPath};

use super::servers::SelectedServer;
use crate::{
    draft::{address_name, wildcard},
    registry::{KnownService, Registry},
};

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

    /// What a server may have for itself instead.
    pub(super) fn remedy(self) -> &'static str {
        match self.bind {
            Bind::Any | Bind::Ip(_) => "use another port, or remove one of the two",
            Bind::Unix(_) => "use another path, or remove one of the two",
        }
    }

    /// In messages.
    pub(super) fn in_words(self) -> String {
        match self.bind {
            Bind::Any | Bind::Ip(_) => format!("port {}", self.port),
            Bind::Unix(path) => format!("unix://{path}"),
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

/// Where the server really listens: where the Services of this workload lead its port.
pub(super) fn address<'s>(
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
