//! The servers a gateway listens with, by port, and which of them lose a conflict.

use std::collections::BTreeMap;

use resources::{
    Finding, GatewayRef, L4Match, Object, Path, Place, Problem, Rule, Server, ServerTls, Severity, TlsMode,
};

use super::{
    address::{Address, address},
    attach::Attached,
};
use crate::{credentials::Unusable, registry::Registry};

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

    /// `server `http` of Gateway default/edge`.
    pub(crate) fn in_words(&self) -> String {
        format!("server `{}` of {}", self.server().port.name, self.gateway.meta.id)
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

/// What is spoken on the server's port.
fn spoken(server: &SelectedServer<'_>) -> Spoken {
    match server.server().port.protocol {
        protocol if protocol.is_tls() => Spoken::Tls,
        protocol if protocol.is_http() => Spoken::Http,
        _ => Spoken::Opaque,
    }
}

fn conflict(loser: &SelectedServer<'_>, winner: &SelectedServer<'_>, address: Address<'_>) -> Finding {
    let (meta, place) = (&winner.gateway.meta, winner.place());
    let (place_shared, protocol) = (address.in_words(), winner.server().port.protocol);
    let problem = Problem::new(format!(
        "cannot share {place_shared} with server `{}` of {} ({place}), {} and speaks {protocol}: \
         the server is left out",
        winner.server().port.name,
        meta.id,
        meta.comes_first(&loser.gateway.meta),
    ));
    let problem = problem.found(loser.server().port.protocol).remedy(address.remedy());
    let finding = loser.finding(Rule::Conflict, "port", problem);
    Finding { severity: Severity::Error, ..finding }
}
