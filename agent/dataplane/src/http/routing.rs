//! From the head of a request to what is to be done with it: route, cross-origin rules, faults, action.

mod routed;

use std::{rc::Rc, time::Instant};

use snapshot::{
    CameBy, ClusterId, ClusterTarget, Elsewhere, Forward, NoRoute, Normalized, Redirect, RequestHead,
    RequestOverrides, Route, RouteAction, RouteConfig, RouteConfigId, TimeLimitOf, VirtualHost, is_grpc,
    match_route,
};

use super::{
    affinity, cors,
    edits::{AnswerChanges, RequestChanges},
    fault,
    grpc_web::GrpcWeb,
    head::{Added, Seen},
    retries::Retries,
    substitute::RequestFacts,
};
use crate::{
    balance::Choice,
    connection::Connection,
    dns::{NotResolved, ResolvedName},
    failure::LocalReply,
    origin::{Origin, tell_if_unknown},
    upstream::Lease,
    view::View,
};

pub(super) use routed::{Action, Before, Followed, Forwarding, Routed};

/// A request as its codec read it.
pub(super) struct Asked<'r, H> {
    pub(super) connection: &'r Connection,
    pub(super) head: &'r H,
    pub(super) added: &'r Added,
    /// `HTTP/1.1` and the like.
    pub(super) protocol: &'static str,
    /// The forms of bodies, if it is of gRPC-Web and that is to become gRPC.
    pub(super) grpc_web: Option<GrpcWeb>,
    pub(super) start: Instant,
    /// Whether a fault has delayed it already.
    pub(super) delayed: bool,
}

/// An endpoint, and the name it was picked for, if that was looked up.
type Picked = (Lease, Option<Rc<ResolvedName>>);

/// Finds the route for a request and picks an endpoint. `draw` decides among clusters and endpoints.
///
/// # Errors
/// What has to happen first.
pub(super) fn route<'v, R: RequestHead>(
    asked: &Asked<'_, Normalized<'_, R>>,
    view: &'v View,
    config: RouteConfigId,
    draw: u64,
) -> Result<Routed<'v>, Before> {
    let grpc = asked.grpc_web.is_some() || is_grpc(asked.head);
    if let Some(routed) = asked.unroutable(grpc) {
        return Ok(routed);
    }
    let config = view.snapshot.route_config(config);
    let mut routed = match asked.find(view, config) {
        Ok(found) => asked.follow(view, found, (draw, grpc))?,
        Err(unfound) => Routed::new(asked.action_without_route(unfound, config), grpc),
    };
    if let Some(web) = asked.grpc_web {
        routed.bridge(web, view);
    }
    Ok(routed)
}

/// Why a request has no route.
enum Unfound {
    /// Its host is that of a server name other than the connection's, which asks clients for something else.
    Misdirected,
    Route(NoRoute),
}

impl<R: RequestHead> Asked<'_, Normalized<'_, R>> {
    /// What becomes of a request that no route is looked for.
    fn unroutable<'v>(&self, grpc: bool) -> Option<Routed<'v>> {
        if self.connection.worker().settings.overload.refuses_requests() {
            return Some(Routed::new(Action::Reply(LocalReply::OVERLOADED), grpc));
        }
        if self.head.method() == "CONNECT" {
            // No route takes CONNECT unless it says so, and none can yet.
            return Some(Routed::reply(LocalReply::no_route(NoRoute::Route)));
        }
        if let Some(location) = self.head.redirect() {
            // What speaks gRPC follows nowhere.
            let action = if grpc {
                Action::Reply(LocalReply::BAD_PATH)
            } else {
                Action::Unescape(location.into_owned())
            };
            return Some(Routed::new(action, grpc));
        }
        let has_path = self.head.path().starts_with('/');
        (!has_path).then(|| Routed::reply(LocalReply::NO_PATH))
    }

    /// The route of the request, also where its host is known by another server name only.
    fn find<'v>(
        &self,
        view: &'v View,
        config: &'v RouteConfig,
    ) -> Result<(&'v VirtualHost, &'v Route), Unfound> {
        if self.connection.is_misdirected(view, self.head.authority()) {
            return Err(Unfound::Misdirected);
        }
        let seen = Seen::new(self.head, self.added);
        match match_route(&seen, self.added.scheme() == "https", config) {
            Err(NoRoute::VirtualHost) => match self.connection.elsewhere(view, &seen) {
                Some(Elsewhere::SameRules(host, route)) => Ok((host, route)),
                Some(Elsewhere::OtherRules) => Err(Unfound::Misdirected),
                None => Err(Unfound::Route(NoRoute::VirtualHost)),
            },
            found => found.map_err(Unfound::Route),
        }
    }

    fn action_without_route<'v>(&self, unfound: Unfound, config: &RouteConfig) -> Action<'v> {
        let redirect = || config.https_ports().location(self.head, self.connection.destination.port());
        match unfound {
            Unfound::Misdirected => Action::Reply(LocalReply::MISDIRECTED),
            Unfound::Route(NoRoute::TlsRequired) => match redirect() {
                Some(location) => Action::Redirect(301, location),
                None => Action::Reply(LocalReply::no_route(NoRoute::TlsRequired)),
            },
            Unfound::Route(missing) => Action::Reply(LocalReply::no_route(missing)),
        }
    }
}

impl<H: RequestHead> Asked<'_, H> {
    fn follow<'v>(
        &self,
        view: &'v View,
        (host, route): (&'v VirtualHost, &'v Route),
        (draw, grpc): (u64, bool),
    ) -> Result<Routed<'v>, Before> {
        let cors = route.cors.as_deref().map(|policy| cors::judge(policy, self.head));
        let fault = route.fault.as_deref().filter(|_| !matches!(cors, Some(cors::Verdict::Preflight(_))));
        if let Some(delay) = fault.and_then(|fault| fault::delay(fault, fastrand::u64(..)))
            && !self.delayed
        {
            return Err(Before::Delay(delay));
        }
        let mut routed = match &route.action {
            RouteAction::DirectResponse { status, body } => {
                Routed::new(Action::Reply(LocalReply::direct(*status, body)), grpc)
            }
            RouteAction::Redirect(redirect) => Routed::new(self.redirected(redirect), grpc),
            RouteAction::Forward(forward) => self.forward(view, (host, route), forward, (draw, grpc))?,
        };
        routed.route.get_or_insert(Followed { route, asks_at: None });
        if !matches!(route.action, RouteAction::Forward(_)) && route.headers.is_some() {
            let none = RequestChanges::default();
            let facts = self.facts(route, None);
            let changes = AnswerChanges::of([route.headers.as_deref(), None], &facts, &none);
            routed.answer = (!changes.is_empty()).then(|| Box::new(changes));
        }
        if let Some(abort) = fault.and_then(|fault| fault::abort(fault, fastrand::u64(..))) {
            routed.answer_here(LocalReply::fault(abort));
        }
        routed.apply(cors.unwrap_or(cors::Verdict::Unconcerned));
        Ok(routed)
    }

    fn redirected<'v>(&self, redirect: &Redirect) -> Action<'v> {
        let came_by = CameBy { scheme: self.added.scheme(), port: self.connection.destination.port() };
        match redirect.location(self.head, came_by) {
            Some(location) => Action::Redirect(redirect.status, location),
            None => Action::Reply(LocalReply::BAD_REQUEST),
        }
    }

    fn forward<'v>(
        &self,
        view: &'v View,
        (served, route): (&'v VirtualHost, &'v Route),
        forward: &'v Forward,
        (draw, grpc): (u64, bool),
    ) -> Result<Routed<'v>, Before> {
        let target = forward.clusters.pick(draw);
        let host = forward.authority(target, self.head.authority());
        let mut cookie = None;
        let action = match target.id {
            None => Action::Reply(LocalReply::NO_CLUSTER),
            Some(cluster) => match self.pick(view, (cluster, host, draw), &mut cookie)? {
                Err(reply) => Action::Reply(reply),
                Ok((lease, named)) => {
                    let overrides = RequestOverrides::of(self.connection.direction, self.head);
                    let limit = forward.time_limit(self.head, overrides.as_deref(), grpc);
                    let (timeout, by_deadline) = (limit.time, limit.of == TimeLimitOf::Deadline);
                    let retries = Retries::of(forward.retries.as_deref(), overrides.as_deref());
                    let (policy, changes) = (forward, None);
                    Action::Forward(Forwarding {
                        lease,
                        cluster,
                        policy,
                        retries,
                        timeout,
                        by_deadline,
                        changes,
                        named,
                    })
                }
            },
        };
        let followed = Followed { route, asks_at: target.id.map(|_| served) };
        let mut routed =
            Routed { cluster: Some(&target.name), route: Some(followed), ..Routed::new(action, grpc) };
        self.change(&mut routed, route, forward, target);
        if self.connection.settings.headers.debug {
            routed.tell_limit();
        }
        if let Some(cookie) = cookie {
            routed.answer.get_or_insert_default().push_add("set-cookie", cookie.as_bytes());
        }
        Ok(routed)
    }

    /// Picks an endpoint for a request to `host`, or says what is answered instead; `cookie` is what the client is to
    /// bring along next time.
    fn pick(
        &self,
        view: &View,
        (cluster, host, draw): (ClusterId, &str, u64),
        cookie: &mut Option<String>,
    ) -> Result<Result<Picked, LocalReply<'static>>, Before> {
        let described = view.snapshot.cluster(cluster);
        let names = &self.connection.worker().names;
        let named = match names.wanted(&described.discovery, host, self.start) {
            Ok(named) => named,
            Err(NotResolved::Unasked(name)) => return Err(Before::Resolve(name)),
            Err(NotResolved::Refused(reply)) => return Ok(Err(reply)),
        };
        let (peer, local) = (self.added.remote(self.connection.peer), self.connection.destination);
        let affinity = affinity::of(self.head, &described.load_balancer, (peer, local));
        *cookie = affinity.cookie;
        let choice = Choice { draw: draw.rotate_left(17), hash: affinity.hash };
        let origin = Origin { named: named.as_deref(), ..self.connection.origin() };
        let picked = view.pick(cluster, origin, choice).ok_or_else(|| {
            tell_if_unknown(self.connection, view, cluster);
            LocalReply::NO_HEALTHY_UPSTREAM
        });
        Ok(picked.and_then(|lease| lease.for_host(host).admit_request()).map(|lease| (lease, named)))
    }

    /// Notes the changes that the route and the destination make.
    fn change<'v>(
        &self,
        routed: &mut Routed<'v>,
        route: &'v Route,
        forward: &'v Forward,
        target: &'v ClusterTarget,
    ) {
        let rewrite = (forward.rewrite.as_deref(), target.authority.as_deref());
        if route.headers.is_none() && target.headers.is_none() && rewrite == (None, None) {
            return;
        }
        // The route has the last word.
        let lists = [target.headers.as_deref(), route.headers.as_deref()];
        let facts = self.facts(route, routed.cluster);
        let changes = RequestChanges::of(lists, rewrite, (&facts, &self.connection.settings.headers));
        let answer = AnswerChanges::of(lists, &facts, &changes);
        routed.answer = (!answer.is_empty()).then(|| Box::new(answer));
        if let Action::Forward(forwarding) = &mut routed.action {
            forwarding.changes = Some(Box::new(changes));
        }
    }

    fn facts<'f>(&'f self, route: &'f Route, cluster: Option<&'f str>) -> RequestFacts<'f> {
        RequestFacts {
            peer: self.connection.peer,
            destination: self.connection.destination,
            unix: self.connection.unix_socket(),
            server_name: self.connection.server_name(),
            head: self.head,
            added: self.added,
            protocol: self.protocol,
            start: self.connection.wall_time(self.start),
            route: route.name.as_deref(),
            cluster,
        }
    }
}
