//! The HTTP rules of a VirtualService as routes of one table.

use resources::{
    Destination, DirectResponse, GatewayRef, HttpMatch, HttpRoute, Object, StringMatch, VirtualService,
};
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
        let mut routes: Vec<Route> = Vec::new();
        let mut action: Option<(usize, RouteAction)> = None;
        for condition in self.conditions(vs) {
            let rule = &vs.spec.http[condition.rule_index];
            // The matches of a rule share its action.
            if action.as_ref().is_none_or(|(of, _)| *of != condition.rule_index) {
                action = self.action(rule, vs).map(|action| (condition.rule_index, action));
            }
            let Some((_, action)) = &action else { continue };
            routes.push(Route {
                name: route_name(rule, condition.matches),
                virtual_service: Some(format!("{}/{}", vs.meta.namespace(), vs.meta.name())),
                ..Route::new(RouteMatch::on_path(path_match(condition.uri())), action.clone())
            });
        }
        Some(routes)
    }

    /// The conditions under which the VirtualService's rules are followed here, in order, up to the first that takes
    /// everything.
    pub(crate) fn conditions<'v>(
        &self,
        vs: &'v Object<VirtualService>,
    ) -> impl Iterator<Item = Condition<'v>> {
        let conditions = vs.spec.http.iter().enumerate().flat_map(|(rule_index, rule)| {
            let whole =
                rule.matches.is_empty().then_some(Condition { rule_index, index: None, matches: None });
            let counted =
                rule.matches.iter().enumerate().filter(|(_, m)| !m.is_beyond_support() && self.counts(m));
            let each =
                counted.map(move |(index, m)| Condition { rule_index, index: Some(index), matches: Some(m) });
            whole.into_iter().chain(each)
        });
        let mut ended = false;
        conditions.take_while(move |condition| !std::mem::replace(&mut ended, condition.takes_all()))
    }

    /// What a rule does; `None` for weights that add up to nothing, which reading refuses.
    fn action(&self, rule: &HttpRoute, vs: &Object<VirtualService>) -> Option<RouteAction> {
        if rule.redirect.is_some() || rule.delegate.is_some() {
            // Left out, the rule would hand its requests to the rules after it.
            return Some(RouteAction::DirectResponse { status: NOT_IMPLEMENTED, body: String::new() });
        }
        if let Some(DirectResponse { status, body }) = &rule.direct_response {
            return Some(RouteAction::DirectResponse { status: *status, body: body.clone() });
        }
        let destinations = rule.route.iter().map(|to| (&to.destination, to.weight));
        self.destinations(destinations, vs).map(|clusters| RouteAction::Forward(clusters.into()))
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

/// Answer to what is understood but not done yet.
const NOT_IMPLEMENTED: u16 = 501;

/// One match of a rule, or a rule that has none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition<'v> {
    /// Position in `spec.http`.
    pub(crate) rule_index: usize,
    /// Position in the rule's `match`.
    pub(crate) index: Option<usize>,
    matches: Option<&'v HttpMatch>,
}

impl<'v> Condition<'v> {
    /// The condition on the path.
    pub(crate) fn uri(&self) -> Option<&'v StringMatch> {
        self.matches.and_then(|m| m.uri.as_ref())
    }

    /// Whether every request fulfils it.
    pub(crate) fn takes_all(&self) -> bool {
        match self.uri() {
            None => true,
            Some(StringMatch::Prefix(prefix)) => prefix == "/",
            Some(_) => false,
        }
    }
}

/// Whether a route takes every request that reaches it.
pub(crate) fn is_catch_all(route: &Route) -> bool {
    route.matches.takes_all()
}

/// Everything to one cluster, as Istio writes it for a service without rules.
pub(crate) fn default_route(name: &str, clusters: WeightedClusters) -> Route {
    let action = RouteAction::Forward(clusters.into());
    Route { name: Some(name.to_owned()), ..Route::new(RouteMatch::default(), action) }
}

fn route_name(rule: &HttpRoute, matches: Option<&HttpMatch>) -> Option<String> {
    let of_match = matches.and_then(|m| m.name.as_deref());
    match (rule.name.as_deref(), of_match) {
        (Some(rule), Some(of_match)) => Some(format!("{rule}.{of_match}")),
        (name, of_match) => name.or(of_match).map(str::to_owned),
    }
}

fn path_match(uri: Option<&StringMatch>) -> PathMatch {
    match uri {
        Some(StringMatch::Exact(path)) => PathMatch::exact(path),
        Some(StringMatch::Prefix(prefix)) => PathMatch::prefix(prefix),
        // An expression is beyond support, so its match never comes here.
        Some(StringMatch::Regex(_) | StringMatch::Present) | None => PathMatch::Any,
    }
}
