//! The ports at which a gateway's clients find its HTTPS servers.

use std::collections::BTreeMap;

use resources::{Protocol, TlsMode};
use snapshot::HttpsPorts;

use super::{
    address::Address,
    servers::{PortServers, SelectedServer, Spoken},
};
use crate::hosts::pattern;

/// The HTTPS servers by host. Ports are those declared, which clients dial; of several for one host 443 comes first.
pub(super) fn of(ports: &BTreeMap<Address<'_>, PortServers<'_>>) -> HttpsPorts {
    let mut https: Vec<&SelectedServer<'_>> = Vec::new();
    let mut clear_text = Vec::new();
    for port in ports.values() {
        match port.spoken {
            Spoken::Http => clear_text.extend(port.servers.iter().map(SelectedServer::declared_port)),
            Spoken::Tls => https.extend(port.servers.iter().filter(|server| serves_https(server))),
            Spoken::Opaque => {}
        }
    }
    https.sort_by_key(|server| server.declared_port() != 443);
    // The same port may be bound at two addresses, to speak differently.
    clear_text.retain(|port| !https.iter().any(|server| server.declared_port() == *port));
    clear_text.sort_unstable();
    clear_text.dedup();
    let hosts = https.into_iter().flat_map(|server| {
        let hosts = server.server().hosts.iter().filter_map(|host| pattern(&host.host));
        hosts.map(|host| (host, server.declared_port()))
    });
    HttpsPorts::new(hosts.collect(), clear_text)
}

fn serves_https(server: &SelectedServer<'_>) -> bool {
    server.server().port.protocol == Protocol::Https && server.tls_mode() != TlsMode::AutoPassthrough
}
