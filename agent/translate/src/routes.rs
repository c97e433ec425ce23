//! The HTTP rules of a VirtualService as routes of one table.

use resources::{Destination, DirectResponse, GatewayRef, HttpMatch, Object, VirtualService};
use snapshot::{
    ClusterTarget, Forward, HeaderEdits, Mirror, PathMatch, RetryPolicy, Rewrite, Route, RouteAction,
    RouteList, RouteMatch, Share, WeightedClusters,
};
use std::{sync::Arc, time::Duration};

use crate::{
    clusters::{Clusters, outbound_name},
    hosts::full_name,
    registry::Registry,
    rules::{Match, Rule, Rules, path_rewrite, redirect},
    visibility,
};

/// Where routes are made for: the table's gateway and port decide which matches count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteContext<'c> {
    pub(crate) registry: &'c Registry<'c>,
    pub(crate) clusters: &'c Clusters,
    pub(crate) rules: &'c Rules,
    /// The gateway, or `mesh` in a sidecar.
    pub(crate) gateway: &'c GatewayRef,
    /// Declared port of the server, or the service's port in a sidecar.
    pub(crate) port: u16,
}

impl<'c> RouteContext<'c> {
    /// The routes of a VirtualService in order, up to the first that takes everything.
    ///
    /// `None` when no rule is for this gateway and port, so that the host is not the VirtualService's here. Rules
    /// whose matches had to be left out leave a host without routes instead, or its requests would fall to another's.
    pub(crate) fn routes(&self, vs: &Object<VirtualService>) -> Option<RouteList> {
        let prepared = self.rules.prepared(vs)?;
        prepared.routes((self.gateway, self.port), |rules| self.made_of(rules, vs))
    }

    fn made_of(&self, rules: &[Rule], vs: &Object<VirtualService>) -> Option<RouteList> {
        let applies = |rule: &Rule| {
            let matches = &rule.http().matches;
            matches.is_empty() || matches.iter().any(|written| self.counts(written))
        };
        if !rules.iter().any(applies) {
            return None;
        }
        let owner: Arc<str> = format!("{}/{}", vs.meta.namespace(), vs.meta.name()).into();
        let routes = self.conditions(vs).filter_map(|(rule, condition)| {
            Some(Route {
                name: condition.name.clone(),
                stat_prefix: condition.stat_prefix.clone(),
                virtual_service: Some(owner.clone()),
                matches: condition.condition.clone(),
                action: self.action(rule, &condition.condition.path)?,
                headers: rule.headers.clone(),
                cors: rule.cors.clone(),
                fault: rule.fault.clone(),
            })
        });
        Some(routes.collect())
    }

    /// The rules that are followed here with their conditions, in order, up to the first that takes everything.
    pub(crate) fn conditions(
        &self,
        vs: &Object<VirtualService>,
    ) -> impl Iterator<Item = (&'c Rule, &'c Match)> {
        let context = *self;
        let conditions = context.rules.of(vs).iter().flat_map(move |rule| {
            let counted = rule.matches.iter().filter(move |condition| {
                rule.written(condition).is_none_or(|written| context.counts(written))
            });
            counted.map(move |condition| (rule, condition))
        });
        let mut ended = false;
        conditions.take_while(move |(_, one)| !std::mem::replace(&mut ended, one.condition.takes_all()))
    }

    /// What a rule does with requests on a path so matched; `None` for weights that add up to nothing, which reading
    /// refuses.
    fn action(&self, rule: &Rule, matched: &PathMatch) -> Option<RouteAction> {
        if let Some(to) = &rule.http().redirect {
            return Some(RouteAction::Redirect(redirect(to, matched)));
        }
        if let Some(DirectResponse { status, body }) = &rule.http().direct_response {
            return Some(RouteAction::DirectResponse { status: *status, body: body.clone() });
        }
        let path = rule.http().rewrite.as_ref().and_then(|written| path_rewrite(written, matched));
        let rewrite = Rewrite { path, authority: rule.authority.clone() };
        Some(RouteAction::Forward(Forward {
            clusters: self.clusters_of(rule)?,
            rewrite: (rewrite != Rewrite::default()).then(|| Box::new(rewrite)),
            timeout: rule.http().timeout.filter(|timeout| *timeout > Duration::ZERO),
            retries: rule.retries.clone(),
            mirrors: self.mirrors(rule),
        }))
    }

    fn clusters_of(&self, rule: &Rule) -> Option<WeightedClusters> {
        let targets = rule.http().route.iter().zip(&rule.destination_headers).map(|(to, changes)| {
            let headers = Some(&changes.edits).filter(|edits| !edits.is_empty());
            ClusterTarget {
                headers: headers.map(|edits: &HeaderEdits| Box::new(edits.clone())),
                authority: changes.authority.clone(),
                ..self.target(&to.destination, to.weight, &rule.owner)
            }
        });
        WeightedClusters::new(targets.collect())
    }

    fn mirrors(&self, rule: &Rule) -> Vec<Mirror> {
        let mirrors = rule.http().mirrors.iter().filter_map(|mirror| {
            let percent = mirror.percentage.map_or(100.0, |percentage| percentage.value);
            let share = Share::of_percent(percent);
            let target = || self.target(&mirror.destination, 1, &rule.owner);
            let marks_host = self.registry.proxy.mesh.mirrors_mark_host;
            (percent > 0.0).then(|| Mirror { target: target(), share, marks_host })
        });
        mirrors.collect()
    }

    /// Destinations as clusters with their weights.
    pub(crate) fn destinations<'d>(
        &self,
        destinations: impl Iterator<Item = (&'d Destination, i32)>,
        vs: &Object<VirtualService>,
    ) -> Option<WeightedClusters> {
        WeightedClusters::new(destinations.map(|(to, weight)| self.target(to, weight, vs)).collect())
    }

    fn target(
        &self,
        destination: &Destination,
        weight: i32,
        owner: &Object<VirtualService>,
    ) -> ClusterTarget {
        let written = full_name(&destination.host, owner.meta.namespace(), self.registry.proxy);
        let host = self.registry.resolve(&written);
        let only = || self.registry.only_port(host);
        let port = destination.port.or_else(only).unwrap_or(self.port);
        let subset = destination.subset.as_deref().unwrap_or_default();
        self.clusters.target(outbound_name(port, subset, host), u32::try_from(weight).unwrap_or_default())
    }

    /// Whether the conditions hold that are known before any request comes.
    fn counts(&self, written: &HttpMatch) -> bool {
        let proxy = self.registry.proxy;
        if written.port.is_some_and(|port| port != self.port) {
            return false;
        }
        if !written.gateways.is_empty() {
            return visibility::names_gateway(&written.gateways, self.gateway);
        }
        let labels = written.source_labels.iter().all(|(key, value)| proxy.labels.get(key) == Some(value));
        labels && written.source_namespace.as_ref().is_none_or(|namespace| *namespace == proxy.namespace)
    }
}

/// Whether a route takes every request that reaches it.
pub(crate) fn is_catch_all(route: &Route) -> bool {
    route.matches.takes_all()
}

/// Everything to some clusters, as Istio writes it for a service without rules.
pub(crate) fn default_route(
    name: &str,
    clusters: WeightedClusters,
    retries: Option<Arc<RetryPolicy>>,
) -> Route {
    let action = RouteAction::Forward(Forward { retries, ..clusters.into() });
    Route { name: Some(name.to_owned()), ..Route::new(RouteMatch::default(), action) }
}
