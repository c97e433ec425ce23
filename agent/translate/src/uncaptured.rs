//! Destinations that exist only for captured connections, where clients dial the proxy itself.

use std::collections::BTreeSet;

use resources::{Finding, Path, Problem, ResourceSet, Rule, Severity};
use snapshot::{
    Cluster, ClusterId, Direction, Discovery, Listener, NetworkFilter, RouteAction, Snapshot,
    WeightedClusters,
};

/// Warnings about what sends connections to where they were going and is used by listeners that clients dial: these
/// were going to the proxy, so there is no endpoint for them.
pub(crate) fn check(resources: &ResourceSet, snapshot: &Snapshot) -> Vec<Finding> {
    let keeps = |cluster: &Cluster| cluster.discovery == Discovery::OriginalDestination;
    if !snapshot.clusters().iter().any(|cluster| keeps(cluster) && cluster.service.is_some()) {
        return Vec::new();
    }
    let dialled = snapshot.listeners().iter().filter(|listener| is_dialled(listener));
    let used: BTreeSet<ClusterId> = dialled.flat_map(|listener| clusters(listener, snapshot)).collect();
    let used = used.into_iter().map(|id| snapshot.cluster(id)).filter(|cluster| keeps(cluster));
    used.filter_map(|cluster| finding(cluster, resources)).collect()
}

fn is_dialled(listener: &Listener) -> bool {
    listener.direction == Direction::Gateway || listener.binding.is_dialled()
}

/// The clusters that connections to a listener can reach.
fn clusters<'s>(listener: &'s Listener, snapshot: &'s Snapshot) -> impl Iterator<Item = ClusterId> + 's {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let reached = chains.flat_map(|chain| match &chain.filter {
        NetworkFilter::Tcp(proxy) => vec![&proxy.clusters],
        NetworkFilter::Http(http) => routed(snapshot.route_config(http.route_config).virtual_hosts()),
        NetworkFilter::Blackhole => Vec::new(),
    });
    reached.flat_map(WeightedClusters::targets).filter_map(|target| target.id)
}

fn routed(hosts: &[snapshot::VirtualHost]) -> Vec<&WeightedClusters> {
    let routes = hosts.iter().flat_map(|host| host.routes.iter());
    let clusters = routes.filter_map(|route| match &route.action {
        RouteAction::Forward(forward) => Some(&forward.clusters),
        RouteAction::DirectResponse { .. } | RouteAction::Redirect(_) => None,
    });
    clusters.collect()
}

/// Says it of the ServiceEntry without addresses of its own, or of the DestinationRule that has its service's ignored.
fn finding(cluster: &Cluster, resources: &ResourceSet) -> Option<Finding> {
    let problem = Problem::new(format!(
        "sends connections to where they were going, and clients that reach {} here dial the proxy itself: they get \
         503 (UH no_healthy_upstream)",
        cluster.name
    ));
    let spec = Path::ROOT.field("spec");
    let service = cluster.service.as_ref()?;
    let entry = resources.service_entries().iter().find(|entry| {
        entry.spec.resolution == resources::Resolution::None
            && entry.meta.namespace() == service.namespace
            && entry.spec.hosts.contains(&service.host)
    });
    let warning = (Severity::Warning, Rule::UnknownReference);
    if let Some(entry) = entry {
        let problem = problem.found("NONE").remedy("use resolution DNS, or STATIC with endpoints");
        return Some(entry.meta.finding(warning.0, warning.1, &spec.field("resolution"), problem));
    }
    let rule = cluster.destination_rule.as_deref()?;
    let is_it = |meta: &resources::Meta| rule == format!("{}/{}", meta.namespace(), meta.name());
    let rule = resources.destination_rules().iter().find(|rule| is_it(&rule.meta))?;
    let problem = problem.remedy("use another `loadBalancer.simple` than PASSTHROUGH for this host");
    let policy = spec.field("trafficPolicy");
    Some(rule.meta.finding(warning.0, warning.1, &policy.field("loadBalancer"), problem))
}
