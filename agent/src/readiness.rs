//! When the proxy is ready: the first configuration is read, something of it is valid, listeners are open, and the
//! workload's own certificate is there where peers of the mesh ask for it.
//!
//! An empty configuration is as good as any, as in Istio. One of which nothing is valid is not: a pod that serves
//! nothing because of a typing error must not replace one that serves. Nor must one that lets in, or sends in clear text,
//! what a resource was to protect that cannot be read.

use dataplane::BindError;
use resources::{Finding, Kind, ResourceId, ResourceSet, Severity};
use snapshot::{Binding, Direction, Snapshot};
use translate::{Proxy, ProxyKind};

/// Why a configuration is not fit to serve; `None` when it is.
pub(crate) fn unfit(
    resources: &ResourceSet,
    findings: &[&Finding],
    (snapshot, proxy): (&Snapshot, &Proxy),
) -> Option<String> {
    if let Some(finding) = findings.iter().find(|finding| costs_protection(finding, resources, proxy)) {
        return Some(format!("what is to be protected is not known: {finding}"));
    }
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let first = errors.next()?;
    let number = 1 + errors.count();
    let what = match () {
        () if resources.is_empty() => "nothing in the configuration is valid",
        () if snapshot.listeners().is_empty() && findings.iter().any(|finding| costs_listeners(finding)) => {
            "nothing valid in the configuration opens a listener"
        }
        () => return None,
    };
    let number = if number == 1 { "the error".to_owned() } else { format!("the first of {number} errors") };
    Some(format!("{what}; {number}, all in /findings: {first}"))
}

/// Whether clients are let in, or calls refused, because it is not known which TLS a resource asks for.
fn costs_protection(finding: &Finding, resources: &ResourceSet, proxy: &Proxy) -> bool {
    let hides_tls = |id: &ResourceId| {
        let rules = resources.destination_rules().iter();
        id.kind == Kind::DestinationRule
            && rules.filter(|rule| rule.meta.id == *id).any(|rule| rule.spec.is_unreadable())
    };
    hides_clients(finding, resources, proxy) || lost(finding, proxy).is_some_and(hides_tls)
}

/// Whether it is not known which mutual TLS is asked of clients.
pub(crate) fn hides_clients(finding: &Finding, resources: &ResourceSet, proxy: &Proxy) -> bool {
    let hides = |id: &ResourceId| {
        id.kind == Kind::PeerAuthentication
            && !resources.peer_authentications().iter().any(|object| object.meta.id == *id)
    };
    proxy.kind == ProxyKind::Sidecar && lost(finding, proxy).is_some_and(hides)
}

/// The resource that cannot be read, where it may concern the workload: those of its own namespace and of the root's do.
/// Whoever writes in another must not keep this workload from starting.
fn lost<'f>(finding: &'f Finding, proxy: &Proxy) -> Option<&'f ResourceId> {
    let id = finding.resource.as_ref().filter(|_| finding.severity == Severity::Error)?;
    let concerned = [proxy.namespace.as_str(), proxy.mesh.root_namespace.as_str()];
    concerned.contains(&&*id.namespace).then_some(id)
}

/// Whether listeners may be missing because of it.
fn costs_listeners(finding: &Finding) -> bool {
    let of_gateway = finding.resource.as_ref().is_none_or(|resource| resource.kind == Kind::Gateway);
    finding.severity == Severity::Error && of_gateway
}

/// Why no client can reach a proxy that should be reached; `None` when some can, or none should.
pub(crate) fn deaf(snapshot: &Snapshot, refused: &[BindError]) -> Option<String> {
    let own_socket = |listener: &&snapshot::Listener| !matches!(listener.binding, Binding::Captured(_));
    let wanted = snapshot.listeners().iter().filter(own_socket).count();
    let first = refused.first().filter(|_| refused.len() >= wanted)?;
    Some(format!("no listener could be opened: {first}"))
}

/// Why peers of the mesh are refused that should be served; `None` when none are.
///
/// A gateway that has been given no certificate of its own has other servers, and does not wait for it.
pub(crate) fn anonymous(snapshot: &Snapshot) -> Option<String> {
    let chains = snapshot.listeners().iter().flat_map(|listener| {
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        chains.map(|chain| (listener.direction, chain))
    });
    let mut missing = chains.filter_map(|(direction, chain)| {
        let context = snapshot.tls_context(chain.tls?);
        let waits = direction == Direction::Inbound || !context.credentials.is_empty();
        context.missing.as_ref().filter(|_| context.is_of_workload() && waits)
    });
    let missing = missing.next()?;
    Some(format!("the workload has no certificate, by which peers of the mesh know it: {missing}"))
}
