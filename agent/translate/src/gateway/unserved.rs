//! VirtualServices that have nothing to say at a gateway, for whoever asks why a host is not served.

use std::{borrow::Cow, collections::HashSet};

use resources::{GatewayRef, ResourceId, ResourceSet, VirtualService};
use snapshot::UnservedRules;

use super::servers::SelectedServer;
use crate::{
    hosts::{full_name, pattern},
    proxy::Proxy,
    visibility,
};

/// Those with HTTP rules that no server of the gateway takes.
pub(super) fn unserved(
    resources: &ResourceSet,
    servers: &[SelectedServer<'_>],
    proxy: &Proxy,
) -> Vec<UnservedRules> {
    let here: HashSet<&GatewayRef> = servers.iter().map(|server| &server.reference).collect();
    let attached = servers.iter().flat_map(|server| &server.attached).map(|attached| &attached.vs.meta.id);
    let attached: HashSet<&ResourceId> = attached.collect();
    let all = resources.virtual_services().iter();
    let vain = all
        .filter(|vs| !vs.spec.http.is_empty() && !vs.spec.is_delegate() && !attached.contains(&vs.meta.id));
    vain.map(|vs| {
        let is_seen = visibility::virtual_service(vs, proxy).is_some();
        let hosts = vs.spec.hosts.iter().map(|host| full_name(host, vs.meta.namespace(), proxy));
        UnservedRules {
            name: vs.meta.id.to_string(),
            hosts: hosts.filter_map(|host| pattern(&host)).collect(),
            because: if is_seen { because(&vs.spec, &here) } else { NOT_EXPORTED.into() },
        }
    })
    .collect()
}

const NOT_EXPORTED: &str = "it is not exported to the gateway's namespace (`exportTo`)";

fn because(rules: &VirtualService, here: &HashSet<&GatewayRef>) -> Cow<'static, str> {
    let named: Vec<&GatewayRef> = rules.gateways.iter().filter(|g| **g != GatewayRef::Mesh).collect();
    let names = |gateways: &mut dyn Iterator<Item = &&GatewayRef>| {
        gateways.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    if named.is_empty() {
        return "it is for sidecars only: `gateways` names no Gateway".into();
    }
    let own = names(&mut named.iter().filter(|gateway| here.contains(**gateway)));
    match own.is_empty() {
        true => format!(
            "none of its `gateways` ({}) is a Gateway whose `selector` selects this proxy",
            names(&mut named.iter())
        ),
        false => format!("no server of Gateway {own} admits any of its hosts (`servers[].hosts`)"),
    }
    .into()
}
