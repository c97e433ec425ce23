//! `networking.istio.io` Sidecar: what a workload's proxy listens on and which services it sees.

mod egress;
mod ingress;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

pub use egress::{EgressHost, EgressListener, EgressNamespace};
pub use ingress::{IngressEndpoint, IngressListener};

use crate::{
    ConnectionPool, Destination, Labels, OutboundTrafficPolicy, Path, Protocol,
    decode::{Context, Decode, Fields, Shape, word_of},
    finding::{Problem, Rule},
    gateway::MaybeZeroPort,
    service_entry::EntrySelector,
    yaml::Node,
};

/// Spec of a Sidecar.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sidecar {
    /// Labels of the workloads it is for (`workloadSelector.labels`); absent means every workload of the namespace.
    pub workload_selector: Option<Labels>,
    /// What the proxy takes for its workload, in place of the ports of its services.
    pub ingress: Vec<IngressListener>,
    /// What the workload may call; empty leaves it as it is without a Sidecar.
    pub egress: Vec<EgressListener>,
    /// Limits of connections to the workload.
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What happens to calls to other hosts; absent leaves it to the mesh.
    pub outbound_traffic_policy: Option<SidecarOutbound>,
}

impl Shape for Sidecar {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let selector: Option<EntrySelector> = fields.optional("workloadSelector");
        Self {
            workload_selector: selector.map(|selector| selector.0),
            ingress: fields.or_default("ingress"),
            egress: fields.or_default("egress"),
            inbound_connection_pool: fields.optional("inboundConnectionPool"),
            outbound_traffic_policy: fields.optional("outboundTrafficPolicy"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let selector_only = Self { workload_selector: self.workload_selector.clone(), ..Self::default() };
        if *self == selector_only {
            let expected =
                "at least one of `ingress`, `egress`, `inboundConnectionPool` and `outboundTrafficPolicy`";
            context.error(at, Problem::new("sets nothing").expected(expected));
        }
        self.check_ingress_ports(at, context);
        egress::check_listeners(&self.egress, at, context);
    }
}

impl Sidecar {
    fn check_ingress_ports(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let (list, mut numbers) = (at.field("ingress"), HashSet::new());
        for (index, listener) in self.ingress.iter().enumerate() {
            if !numbers.insert(listener.port.number) {
                let problem = Problem::new("is the port of an earlier listener").found(listener.port.number);
                let port = list.index(index);
                context.error(&port.field("port").field("number"), problem.expected("each port once"));
            }
        }
    }
}

/// What happens to calls to hosts that no resource names (`OutboundTrafficPolicy`). Without a `mode` they are refused.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SidecarOutbound {
    /// The policy.
    pub mode: OutboundTrafficPolicy,
    /// Service that takes these calls instead of their destination.
    pub egress_proxy: Option<Destination>,
}

impl Shape for SidecarOutbound {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            mode: fields.optional("mode").unwrap_or(OutboundTrafficPolicy::RegistryOnly),
            egress_proxy: fields.optional("egressProxy"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let Some(proxy) = &self.egress_proxy else { return };
        let at = at.field("egressProxy");
        if self.mode == OutboundTrafficPolicy::RegistryOnly {
            let problem = Problem::new("has no calls to take with mode REGISTRY_ONLY");
            context.error(&at, problem.remedy("use mode ALLOW_ANY"));
        }
        if proxy.port.is_none() {
            context.error(&at.field("port"), Problem::new("is missing").expected("`number`"));
        }
    }
}

/// Port of a listener (`SidecarPort`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SidecarPort {
    /// Number; 0 with a unix socket only.
    pub number: u16,
    /// What is spoken there; absent means it is detected from the first bytes.
    pub protocol: Option<Protocol>,
    /// Name.
    pub name: String,
}

impl Shape for SidecarPort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        // Part of the interface, though Istio itself never looked at it.
        let _: Option<u32> = fields.planned("targetPort");
        let number: MaybeZeroPort = fields.or_default("number");
        Self { number: number.get(), protocol: fields.optional("protocol"), name: fields.or_default("name") }
    }
}

/// How traffic reaches a listener (`CaptureMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CaptureMode {
    /// As the environment does it.
    #[default]
    Default,
    /// By redirection.
    Iptables,
    /// The workload calls the listener by its address.
    None,
}

impl Decode for CaptureMode {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [("DEFAULT", Self::Default), ("IPTABLES", Self::Iptables), ("NONE", Self::None)];
        word_of(node, &words, at, context)
    }
}

/// Warns of HTTP limits where no HTTP is spoken.
fn warn_of_http_pool(
    pool: Option<&ConnectionPool>,
    port: &SidecarPort,
    at: &Path<'_>,
    context: &mut Context<'_>,
) {
    let opaque = port.protocol.is_some_and(|protocol| !protocol.is_http() && !protocol.is_tls());
    if opaque && pool.is_some_and(|pool| pool.http != crate::HttpPool::default()) {
        let problem = Problem::new("has no effect on a port that is not HTTP");
        context.warning(Rule::Invalid, &at.field("http"), problem.remedy("use `tcp`"));
    }
}
