//! The HTTP rules of a VirtualService as routes of one table.

use resources::{Destination, GatewayRef, HttpMatch, HttpRoute, Object, StringMatch, VirtualService};
use snapshot::{ClusterTarget, PathMatch, Route, RouteAction, RouteMatch, WeightedClusters};

use crate::{
    clusters::{Clusters, outbound_name},
    hosts::full_name,
    registry::Registry,
    visibility,
};

/// Where routes are made for: the table's gateway and port decide which matches count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteContext<'c> {
    pub(crate) registry: &'c Registry<'c>,
    pub(crate) clusters: &'c Clusters,
    /// The gateway, or `mesh` in a sidecar.
    pub(crate) gateway: &'c GatewayRef,
    /// Declared port of the server, or the service's port in a sidecar.
    pub(crate) port: u16,
}

impl RouteContext<'_> {
    /// The routes of a VirtualService in order, up to the first that takes everything.
    ///
    /// `None` when no rule is for this gateway and port, so that the host is not the VirtualService's here. Rules
    /// that cannot be followed yet leave a host without routes instead, or its requests would fall to another's.
    pub(crate) fn routes(&self, vs: &Object<VirtualService>) -> Option<Vec<Route>> {
        let applies =
            |rule: &HttpRoute| rule.matches.is_empty() || rule.matches.iter().any(|m| self.counts(m));
        if !vs.spec.http.iter().any(applies) {
            return None;
        }
        let mut routes = Vec::new();
        for rule in &vs.spec.http {
            let Some(action) = self.action(rule, vs) else { continue };
            for matches in self.matches(rule) {
                let name = route_name(rule, matches);
                let virtual_service = Some(format!("{}/{}", vs.meta.namespace(), vs.meta.name()));
                let matches = RouteMatch { path: path_match(matches) };
                routes.push(Route { name, virtual_service, matches, action: action.clone() });
                if routes.last().is_some_and(is_catch_all) {
                    return Some(routes);
                }
            }
        }
        Some(routes)
    }

    /// What a rule does, or `None` when it cannot be done yet; its findings were made when it was read.
    fn action(&self, rule: &HttpRoute, vs: &Object<VirtualService>) -> Option<RouteAction> {
        if let Some(response) = &rule.direct_response {
            return Some(RouteAction::DirectResponse {
                status: response.status,
                body: response.body.clone(),
            });
        }
        let destinations = rule.route.iter().map(|to| (&to.destination, to.weight));
        self.destinations(destinations, vs).map(RouteAction::Forward)
    }

    /// Destinations as clusters with their weights.
    pub(crate) fn destinations<'d>(
        &self,
        destinations: impl Iterator<Item = (&'d Destination, i32)>,
        vs: &Object<VirtualService>,
    ) -> Option<WeightedClusters> {
        let targets = destinations.map(|(to, weight)| self.target(to, weight, vs.meta.namespace())).collect();
        WeightedClusters::new(targets)
    }

    fn target(&self, destination: &Destination, weight: i32, namespace: &str) -> ClusterTarget {
        let host = full_name(&destination.host, namespace, self.registry.proxy);
        let only = || self.registry.service(&host).and_then(|service| service.only_port());
        let port = destination.port.or_else(only).unwrap_or(self.port);
        let subset = destination.subset.as_deref().unwrap_or_default();
        self.clusters.target(outbound_name(port, subset, &host), u32::try_from(weight).unwrap_or_default())
    }

    /// The matches of a rule that count here; `None` stands for the match of a rule that has none.
    fn matches<'r>(&self, rule: &'r HttpRoute) -> Vec<Option<&'r HttpMatch>> {
        if rule.matches.is_empty() {
            return vec![None];
        }
        rule.matches.iter().filter(|m| !m.is_beyond_support() && self.counts(m)).map(Some).collect()
    }

    /// Whether the conditions hold that are known before any request comes.
    fn counts(&self, m: &HttpMatch) -> bool {
        let proxy = self.registry.proxy;
        if m.port.is_some_and(|port| port != self.port) {
            return false;
        }
        if !m.gateways.is_empty() {
            return visibility::names_gateway(&m.gateways, self.gateway);
        }
        let labels = m.source_labels.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
        labels && m.source_namespace.as_ref().is_none_or(|namespace| *namespace == proxy.namespace)
    }
}

/// Whether a route takes every request that reaches it.
pub(crate) fn is_catch_all(route: &Route) -> bool {
    match &route.matches.path {
        PathMatch::Any => true,
        PathMatch::Prefix(prefix) => prefix == "/",
        PathMatch::Exact(_) => false,
    }
}

/// Everything to one cluster, as Istio writes it for a service without rules.
pub(crate) fn default_route(name: &str, clusters: WeightedClusters) -> Route {
    Route {
        name: Some(name.to_owned()),
        virtual_service: None,
        matches: RouteMatch::default(),
        action: RouteAction::Forward(clusters),
    }
}

fn route_name(rule: &HttpRoute, matches: Option<&HttpMatch>) -> Option<String> {
    let of_match = matches.and_then(|m| m.name.as_deref());
    match (rule.name.as_deref(), of_match) {
        (Some(rule), Some(of_match)) => Some(format!("{rule}.{of_match}")),
        (name, of_match) => name.or(of_match).map(str::to_owned),
    }
}

fn path_match(matches: Option<&HttpMatch>) -> PathMatch {
    match matches.and_then(|m| m.uri.as_ref()) {
        Some(StringMatch::Exact(path)) => PathMatch::Exact(path.clone()),
        Some(StringMatch::Prefix(prefix)) => PathMatch::Prefix(prefix.clone()),
        // An expression is beyond support, so its match never comes here.
        Some(StringMatch::Regex(_) | StringMatch::Present) | None => PathMatch::Any,
    }
}
