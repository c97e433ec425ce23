//! Hosts of VirtualServices that no server of their Gateways has: for their authors, and for whoever asks why a host is
//! not served.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use resources::{
    Finding, GatewayRef, HostNamespace, Object, Path, Problem, ResourceId, ResourceSet, Rule, Severity,
    VirtualService, did_you_mean,
};
use snapshot::{HostPattern, UnservedRules};

use super::{
    attach::{admits, follows},
    servers::SelectedServer,
};
use crate::{
    hosts::{covers, full_name, pattern},
    proxy::Proxy,
    visibility,
};

/// What of the VirtualServices the servers of this proxy have, to find the rest.
pub(super) struct Unattached<'u, 's> {
    resources: &'s ResourceSet,
    servers: &'u [SelectedServer<'s>],
    proxy: &'u Proxy,
    /// Gateways that select this proxy.
    here: HashSet<&'u GatewayRef>,
    attached: HashMap<&'s ResourceId, Attached<'u>>,
}

/// Where a VirtualService is attached, and for which hosts.
#[derive(Default)]
struct Attached<'u> {
    gateways: HashSet<&'u GatewayRef>,
    hosts: HashSet<&'u HostPattern>,
}

impl Attached<'_> {
    /// Whether the host is among these, or covers one of them: they are what a server and a VirtualService share.
    fn has(&self, wanted: &HostPattern) -> bool {
        self.hosts.contains(wanted)
            || match wanted {
                HostPattern::Any => !self.hosts.is_empty(),
                HostPattern::Suffix(suffix) => self.hosts.iter().any(|host| match host {
                    HostPattern::Exact(name) | HostPattern::Suffix(name) => name.ends_with(suffix.as_str()),
                    HostPattern::Any => false,
                }),
                HostPattern::Exact(_) => false,
            }
    }
}

impl<'u, 's> Unattached<'u, 's> {
    pub(super) fn new(
        resources: &'s ResourceSet,
        servers: &'u [SelectedServer<'s>],
        proxy: &'u Proxy,
    ) -> Self {
        let here = servers.iter().map(|server| &server.reference).collect();
        let mut attached: HashMap<_, Attached<'_>> = HashMap::new();
        for server in servers {
            for one in &server.attached {
                let known = attached.entry(&one.vs.meta.id).or_default();
                known.gateways.insert(&server.reference);
                known.hosts.insert(&one.host);
            }
        }
        Self { resources, servers, proxy, here, attached }
    }

    /// Findings for VirtualServices that name a Gateway of this proxy which has none of their hosts, and for hosts that
    /// none of their Gateways has, unless these may be for sidecars or other proxies.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let all = self.resources.virtual_services().iter().filter(|vs| !vs.spec.is_delegate());
        let seen = all.filter(|vs| visibility::virtual_service(vs, self.proxy).is_some());
        seen.flat_map(|vs| {
            let in_vain = self.gateways_in_vain(vs);
            if in_vain.is_empty() { self.hosts_in_vain(vs) } else { in_vain }
        })
        .collect()
    }

    fn gateways_in_vain(&self, vs: &Object<VirtualService>) -> Vec<Finding> {
        let attached = self.attached.get(&vs.meta.id);
        let is_in_vain = |gateway: &&GatewayRef| {
            self.here.contains(*gateway) && attached.is_none_or(|known| !known.gateways.contains(*gateway))
        };
        let spec = Path::ROOT.field("spec");
        let finding = |gateway| {
            let hosts: Vec<&str> = vs.spec.hosts.iter().map(String::as_str).collect();
            self.finding(vs, &[gateway], &hosts, &spec.field("hosts"))
        };
        vs.spec.gateways.iter().filter(is_in_vain).map(finding).collect()
    }

    fn hosts_in_vain(&self, vs: &Object<VirtualService>) -> Vec<Finding> {
        let gateways: Vec<&GatewayRef> = vs.spec.gateways.iter().collect();
        if !gateways.iter().all(|gateway| self.here.contains(*gateway)) {
            return Vec::new();
        }
        let spec = Path::ROOT.field("spec");
        let list = spec.field("hosts");
        let hosts = vs.spec.hosts.iter().enumerate();
        let in_vain = hosts.filter(|(_, host)| !self.has(vs, host));
        in_vain.map(|(index, host)| self.finding(vs, &gateways, &[host], &list.index(index))).collect()
    }

    /// Whether some server has the host, or one that the host covers.
    fn has(&self, vs: &Object<VirtualService>, host: &str) -> bool {
        let Some(wanted) = pattern(&full_name(host, vs.meta.namespace(), self.proxy)) else { return true };
        self.attached.get(&vs.meta.id).is_some_and(|known| known.has(&wanted))
    }

    fn finding(
        &self,
        vs: &Object<VirtualService>,
        gateways: &[&GatewayRef],
        hosts: &[&str],
        at: &Path<'_>,
    ) -> Finding {
        let (these, them) =
            if hosts.len() == 1 { ("this host", "it") } else { ("any of these hosts", "them") };
        let problem =
            Problem::new(format!("no server of {} has {these}, so its rules are not used", names(gateways)))
                .written(hosts.join(", "));
        let remedy = hosts.iter().find_map(|host| self.why(vs, gateways, host));
        let problem =
            problem.remedy(remedy.unwrap_or_else(|| format!("add {them} to the `hosts` of a server")));
        vs.meta.finding(Severity::Warning, Rule::UnknownReference, at, problem)
    }

    /// Why no server has a host: one has it, but not for these rules, or has one that is spelt nearly the same.
    fn why(&self, vs: &Object<VirtualService>, gateways: &[&GatewayRef], host: &str) -> Option<String> {
        let wanted = pattern(&full_name(host, vs.meta.namespace(), self.proxy))?.to_string();
        let servers = || self.servers.iter().filter(|server| gateways.contains(&&server.reference));
        let hosts = servers().flat_map(|server| server.server().hosts.iter().map(move |own| (server, own)));
        for (server, own) in hosts.take(MOST_COMPARED) {
            let is_same = covers(&own.host, &wanted) || covers(&wanted, &own.host);
            if is_same && !admits(&own.namespace, &server.reference, vs.meta.namespace()) {
                return Some(admits_others(server, &own.namespace, &own.host));
            }
        }
        let hosts = servers().filter(|server| follows(server.server(), &vs.spec));
        let hosts = hosts.flat_map(|server| &server.server().hosts).map(|host| host.host.as_str());
        did_you_mean(host, hosts)
    }

    /// VirtualServices with HTTP rules for hosts that no server of the gateway has, and why.
    pub(super) fn unserved_rules(&self) -> Vec<UnservedRules> {
        let with_rules =
            |vs: &&std::sync::Arc<Object<VirtualService>>| !vs.spec.http.is_empty() && !vs.spec.is_delegate();
        let unserved = |vs: &std::sync::Arc<Object<VirtualService>>| {
            let is_seen = visibility::virtual_service(vs, self.proxy).is_some();
            let hosts = vs.spec.hosts.iter().filter(|host| !is_seen || !self.has(vs, host));
            let hosts = hosts.map(|host| full_name(host, vs.meta.namespace(), self.proxy));
            let hosts: Vec<HostPattern> = hosts.filter_map(|host| pattern(&host)).collect();
            let because = || if is_seen { self.because(&vs.spec) } else { NOT_EXPORTED.into() };
            (!hosts.is_empty()).then(|| UnservedRules {
                name: vs.meta.id.to_string(),
                hosts,
                because: because(),
            })
        };
        self.resources.virtual_services().iter().filter(with_rules).filter_map(unserved).collect()
    }

    fn because(&self, rules: &VirtualService) -> Cow<'static, str> {
        let named: Vec<&GatewayRef> = rules.gateways.iter().filter(|g| **g != GatewayRef::Mesh).collect();
        if named.is_empty() {
            return "it is for sidecars only: `gateways` names no Gateway".into();
        }
        let own: Vec<&GatewayRef> = named.iter().copied().filter(|g| self.here.contains(g)).collect();
        match own.as_slice() {
            [] => {
                let named: Vec<String> = named.iter().map(ToString::to_string).collect();
                format!(
                    "none of its `gateways` ({}) is a Gateway whose `selector` selects this proxy",
                    named.join(", ")
                )
            }
            own => {
                format!("no server of {} has this host for its `http` rules (`servers[].hosts`)", names(own))
            }
        }
        .into()
    }
}

/// A remedy is not worth more.
const MOST_COMPARED: usize = 1_000;

const NOT_EXPORTED: &str = "it is not exported to the gateway's namespace (`exportTo`)";

fn admits_others(server: &SelectedServer<'_>, namespace: &HostNamespace, host: &str) -> String {
    let prefix = match namespace {
        HostNamespace::Named(name) => name.as_str(),
        HostNamespace::Own | HostNamespace::Any => ".",
    };
    let server = &server.server().port.name;
    format!("server `{server}` has `{prefix}/{host}`, for VirtualServices of that namespace only")
}

/// `Gateway a/b`, or several.
fn names(gateways: &[&GatewayRef]) -> String {
    let names: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    format!("{} {}", if names.len() == 1 { "Gateway" } else { "Gateways" }, names.join(", "))
}
