//! From the head of a request to what is to be done with it: route, cross-origin rules, faults, action.

use std::time::{Duration, Instant};

use snapshot::{
    CameBy, ClusterId, ClusterTarget, Elsewhere, Forward, NoRoute, RequestHead, Route, RouteAction,
    RouteConfigId, match_route,
};

use super::{
    affinity, cors,
    edits::{AnswerChanges, RequestChanges},
    fault::Injected,
    head::Added,
    substitute::RequestFacts,
    timeout,
    wishes::{Retries, Wishes},
};
use crate::{balance::Choice, connection::Connection, failure::LocalReply, upstream::Lease, view::View};

/// A request as its codec read it.
pub(super) struct Asked<'r, H> {
    pub(super) connection: &'r Connection,
    pub(super) head: &'r H,
    pub(super) added: &'r Added,
    /// `HTTP/1.1` and the like.
    pub(super) protocol: &'static str,
    pub(super) start: Instant,
}

/// What is to be done with a request, and the names that the log has for it.
pub(super) struct Routed<'v> {
    pub(super) action: Action<'v>,
    pub(super) cluster: Option<&'v str>,
    pub(super) route: Option<&'v str>,
    /// What the route changes in the answer, whoever gives it.
    pub(super) answer: Option<Box<AnswerChanges<'v>>>,
    /// Waits so long before the action.
    pub(super) delay: Option<Duration>,
    /// Whether answers of our own take the form of gRPC.
    pub(super) grpc: bool,
}

pub(super) enum Action<'v> {
    /// Sent to this endpoint.
    Forward(Forwarding<'v>),
    /// Answered here.
    Reply(LocalReply<'v>),
    /// Sent to this URI.
    Redirect(u16, String),
}

/// A request that goes to an endpoint.
pub(super) struct Forwarding<'v> {
    pub(super) lease: Lease,
    pub(super) cluster: ClusterId,
    /// How the route sends it.
    pub(super) policy: &'v Forward,
    /// When it is tried again, if ever.
    pub(super) retries: Option<Retries<'v>>,
    /// From the request's end to the answer's.
    pub(super) timeout: Option<Duration>,
    /// Whether the client's own deadline (`grpc-timeout`) is what limits it.
    pub(super) by_deadline: bool,
    /// What the route changes in it, if anything.
    pub(super) changes: Option<Box<RequestChanges<'v>>>,
}

impl<'v> Routed<'v> {
    pub(super) fn reply(reply: LocalReply<'v>) -> Self {
        Self::new(Action::Reply(reply), false)
    }

    /// With the endpoint told how long it has, where there is a limit.
    fn expecting(mut self) -> Self {
        if let Action::Forward(forwarding) = &mut self.action {
            let of_try = forwarding.retries.as_ref().and_then(|policy| policy.per_try_timeout);
            if let Some(limit) = forwarding.timeout.into_iter().chain(of_try).min() {
                forwarding.changes.get_or_insert_default().expect_within(limit);
            }
        }
        self
    }

    /// What the route changes in the request.
    pub(super) fn changes(&self) -> Option<&RequestChanges<'v>> {
        match &self.action {
            Action::Forward(forwarding) => forwarding.changes.as_deref(),
            Action::Reply(_) | Action::Redirect(..) => None,
        }
    }

    fn new(action: Action<'v>, grpc: bool) -> Self {
        Self { action, cluster: None, route: None, answer: None, delay: None, grpc }
    }
}

/// Finds the route for a request and picks an endpoint. `draw` decides among clusters and endpoints.
pub(super) fn route<'v, H: RequestHead>(
    asked: &Asked<'_, H>,
    view: &'v View,
    config: RouteConfigId,
    draw: u64,
) -> Routed<'v> {
    let (request, connection) = (asked.head, asked.connection);
    let grpc = is_grpc(request);
    if request.method() == "CONNECT" {
        // No route takes CONNECT unless it says so, and none can yet.
        return Routed::reply(LocalReply::no_route(NoRoute::Route));
    }
    let config = view.snapshot.route_config(config);
    let found = match match_route(request, asked.added.scheme() == "https", config) {
        Err(NoRoute::VirtualHost) => match connection.elsewhere(view, request) {
            Some(Elsewhere::SameRules(_, route)) => Ok(route),
            Some(Elsewhere::OtherRules) => return Routed::new(Action::Reply(LocalReply::MISDIRECTED), grpc),
            None => Err(NoRoute::VirtualHost),
        },
        found => found.map(|(_, route)| route),
    };
    match found {
        Ok(route) => asked.follow(view, route, (draw, grpc)),
        Err(NoRoute::TlsRequired) => {
            let action = match config.https_ports().location(request, connection.destination.port()) {
                Some(location) => Action::Redirect(301, location),
                None => Action::Reply(LocalReply::no_route(NoRoute::TlsRequired)),
            };
            Routed::new(action, grpc)
        }
        Err(missing) => Routed::new(Action::Reply(LocalReply::no_route(missing)), grpc),
    }
}

impl<H: RequestHead> Asked<'_, H> {
    fn follow<'v>(&self, view: &'v View, route: &'v Route, (draw, grpc): (u64, bool)) -> Routed<'v> {
        let mut routed = Routed {
            route: route.name.as_deref(),
            ..match &route.action {
                RouteAction::DirectResponse { status, body } => {
                    Routed::new(Action::Reply(LocalReply::direct(*status, body)), grpc)
                }
                RouteAction::Redirect(redirect) => {
                    let connection = self.connection;
                    let came_by = CameBy { scheme: self.added.scheme(), port: connection.destination.port() };
                    let action = match redirect.location(self.head, came_by) {
                        Some(location) => Action::Redirect(redirect.status, location),
                        None => Action::Reply(LocalReply::BAD_REQUEST),
                    };
                    Routed::new(action, grpc)
                }
                RouteAction::Forward(forward) => self.forward(view, route, forward, (draw, grpc)),
            }
        };
        if !matches!(route.action, RouteAction::Forward(_)) && route.headers.is_some() {
            let none = RequestChanges::default();
            let facts = self.facts(route, None);
            let changes = AnswerChanges::of([route.headers.as_deref(), None], &facts, &none);
            routed.answer = (!changes.is_empty()).then(|| Box::new(changes));
        }
        if let Some(fault) = &route.fault {
            let Injected { delay, abort } = Injected::draw(fault, [fastrand::u64(..), fastrand::u64(..)]);
            routed.delay = delay;
            if let Some(abort) = abort {
                routed.action = Action::Reply(LocalReply::fault(abort));
            }
        }
        match route.cors.as_deref().map(|policy| cors::judge(policy, self.head)) {
            None | Some(cors::Verdict::Unconcerned) => {}
            Some(cors::Verdict::Allowed(lines)) => {
                routed.answer.get_or_insert_default().push_set(lines);
            }
            Some(cors::Verdict::Preflight(lines)) => {
                let mut answer = AnswerChanges::default();
                answer.push_set(lines);
                routed.answer = Some(Box::new(answer));
                (routed.action, routed.delay) = (Action::Reply(LocalReply::PREFLIGHT), None);
            }
        }
        routed
    }

    fn forward<'v>(
        &self,
        view: &'v View,
        route: &'v Route,
        forward: &'v Forward,
        (draw, grpc): (u64, bool),
    ) -> Routed<'v> {
        let target = forward.clusters.pick(draw);
        let mut cookie = None;
        let pick = |id| {
            let balancer = &view.snapshot.cluster(id).load_balancer;
            let (peer, local) = (self.added.remote(self.connection.peer), self.connection.destination);
            let affinity = affinity::of(self.head, balancer, (peer, local));
            cookie = affinity.cookie;
            let choice = Choice { draw: draw.rotate_left(17), hash: affinity.hash };
            let rewritten = forward.rewrite.as_deref().and_then(|rewrite| rewrite.authority.as_deref());
            let host = target.authority.as_deref().or(rewritten).unwrap_or(self.head.authority());
            (view.pick(id, self.connection.origin(), choice).map(|lease| lease.for_host(host)), id)
        };
        let action = match target.id.map(pick) {
            None => Action::Reply(LocalReply::NO_CLUSTER),
            Some((None, _)) => Action::Reply(LocalReply::NO_HEALTHY_UPSTREAM),
            Some((Some(lease), cluster)) => match lease.admit_request() {
                Ok(lease) => {
                    let wishes = Wishes::of(self.connection.direction, self.head);
                    let wished = wishes.as_ref().and_then(|wishes| wishes.timeout);
                    let (timeout, by_deadline) = match wished {
                        Some(limit) => (Some(limit).filter(|limit| !limit.is_zero()), false),
                        None => timeout::of(forward, self.head, grpc),
                    };
                    let retries = Retries::of(forward.retries.as_deref(), wishes.as_deref());
                    let changes = None;
                    Action::Forward(Forwarding {
                        lease,
                        cluster,
                        policy: forward,
                        retries,
                        timeout,
                        by_deadline,
                        changes,
                    })
                }
                Err(reply) => Action::Reply(reply),
            },
        };
        let routed = Routed { cluster: Some(&target.name), ..Routed::new(action, grpc) };
        let mut routed = self.change(routed, route, forward, target).expecting();
        if let Some(cookie) = cookie {
            routed.answer.get_or_insert_default().push_add("set-cookie", cookie.as_bytes());
        }
        routed
    }

    /// With the changes that the route and the destination make.
    fn change<'v>(
        &self,
        mut routed: Routed<'v>,
        route: &'v Route,
        forward: &'v Forward,
        target: &'v ClusterTarget,
    ) -> Routed<'v> {
        let rewrite = (forward.rewrite.as_deref(), target.authority.as_deref());
        if route.headers.is_none() && target.headers.is_none() && rewrite == (None, None) {
            return routed;
        }
        // The route has the last word.
        let lists = [target.headers.as_deref(), route.headers.as_deref()];
        let facts = self.facts(route, routed.cluster);
        let changes = RequestChanges::of(lists, rewrite, &facts);
        let answer = AnswerChanges::of(lists, &facts, &changes);
        routed.answer = (!answer.is_empty()).then(|| Box::new(answer));
        if let Action::Forward(forwarding) = &mut routed.action {
            forwarding.changes = Some(Box::new(changes));
        }
        routed
    }

    fn facts<'f>(&'f self, route: &'f Route, cluster: Option<&'f str>) -> RequestFacts<'f> {
        RequestFacts {
            connection: self.connection,
            head: self.head,
            added: self.added,
            protocol: self.protocol,
            start: self.start,
            route: route.name.as_deref(),
            cluster,
        }
    }
}

/// Whether the client speaks gRPC, by its content type.
fn is_grpc(request: &impl RequestHead) -> bool {
    // gRPC has no other method; most requests are told apart here.
    request.method() == "POST"
        && request.header("content-type").is_some_and(|kind| match kind.strip_prefix(b"application/grpc") {
            Some(rest) => rest.first().is_none_or(|next| matches!(next, b'+' | b';')),
            None => false,
        })
}
