//! What is to be done with a request, or before it can be routed.

use std::{rc::Rc, time::Duration};

use snapshot::{ClusterId, Forward, RequestHead, Route, UpstreamProtocol, VirtualHost, is_grpc};

use crate::{
    alarm,
    connection::Connection,
    dns::ResolvedName,
    failure::LocalReply,
    http::{
        cors,
        edits::{AnswerChanges, RequestChanges},
        grpc_web::GrpcWeb,
        retries::Retries,
    },
    telemetry::CountedRoute,
    upstream::Lease,
    view::View,
};

/// What is to be done with a request, and the names that the log has for it.
pub(in crate::http) struct Routed<'v> {
    pub(in crate::http) action: Action<'v>,
    pub(in crate::http) cluster: Option<&'v str>,
    pub(in crate::http) route: Option<Followed<'v>>,
    /// What the route changes in the answer, whoever gives it.
    pub(in crate::http) answer: Option<Box<AnswerChanges<'v>>>,
    /// Whether answers of our own take the form of gRPC.
    pub(in crate::http) grpc: bool,
    /// The forms of bodies, where gRPC-Web becomes gRPC.
    pub(in crate::http) grpc_web: Option<GrpcWeb>,
}

/// The route that a request takes.
#[derive(Clone, Copy)]
pub(in crate::http) struct Followed<'v> {
    pub(super) route: &'v Route,
    /// The route's virtual host, where an endpoint is asked for.
    pub(super) asks_at: Option<&'v VirtualHost>,
}

impl<'v> Followed<'v> {
    /// Its name, for the log.
    pub(in crate::http) fn name(self) -> Option<&'v str> {
        self.route.name.as_deref()
    }

    /// What the request is counted under besides.
    pub(in crate::http) fn counted(self) -> Option<CountedRoute<&'v str>> {
        let stat_prefix = self.route.stat_prefix.as_deref()?;
        self.asks_at.map(|host| CountedRoute { virtual_host: host.name.as_str(), stat_prefix })
    }
}

pub(in crate::http) enum Action<'v> {
    /// Sent to this endpoint.
    Forward(Forwarding<'v>),
    /// Answered here.
    Reply(LocalReply<'v>),
    /// Sent to this URI.
    Redirect(u16, String),
    /// Sent to the same path without escaped slashes.
    Unescape(String),
}

impl Action<'_> {
    /// What is answered here; one that goes to an endpoint is answered there.
    pub(in crate::http) fn reply(&self) -> Option<LocalReply<'_>> {
        match self {
            Self::Forward(_) => None,
            Self::Reply(reply) => Some(*reply),
            Self::Redirect(status, location) => Some(LocalReply::redirect(*status, location)),
            Self::Unescape(location) => Some(LocalReply::unescaped(location)),
        }
    }
}

/// A request that goes to an endpoint.
pub(in crate::http) struct Forwarding<'v> {
    pub(in crate::http) lease: Lease,
    pub(in crate::http) cluster: ClusterId,
    /// How the route sends it.
    pub(in crate::http) policy: &'v Forward,
    /// When it is tried again, if ever.
    pub(in crate::http) retries: Option<Retries<'v>>,
    /// From the request's end to the answer's.
    pub(in crate::http) timeout: Option<Duration>,
    /// Whether the client's own deadline (`grpc-timeout`) is what limits it.
    pub(in crate::http) by_deadline: bool,
    /// What the route changes in it, if anything.
    pub(in crate::http) changes: Option<Box<RequestChanges<'v>>>,
    /// What it asks for by name, where the cluster has that resolved.
    pub(in crate::http) named: Option<Rc<ResolvedName>>,
}

/// What has to happen before a request can be routed. No endpoint is picked until then.
#[derive(Debug)]
pub(in crate::http) enum Before {
    /// The name that it asks for is resolved.
    Resolve(Box<str>),
    /// The delay that a fault injects passes.
    Delay(Duration),
}

impl Before {
    /// Lets it happen; `delayed` becomes true when that was a delay.
    pub(in crate::http) async fn happen(self, connection: &Connection, delayed: &mut bool) {
        match self {
            Self::Resolve(name) => connection.worker().names.resolve(&name).await,
            Self::Delay(delay) => {
                *delayed = true;
                alarm::sleep(delay).await;
            }
        }
    }
}

impl<'v> Routed<'v> {
    pub(in crate::http) fn reply(reply: LocalReply<'v>) -> Self {
        Self::new(Action::Reply(reply), false)
    }

    /// The answer to a path without a normal form.
    pub(in crate::http) fn bad_path(request: &impl RequestHead) -> Self {
        Self::new(Action::Reply(LocalReply::BAD_PATH), is_grpc(request))
    }

    /// Tells the endpoint how long it has, where there is a limit.
    pub(super) fn tell_limit(&mut self) {
        if let Action::Forward(forwarding) = &mut self.action {
            let of_try = forwarding.retries.as_ref().and_then(|policy| policy.per_try_timeout);
            if let Some(limit) = forwarding.timeout.into_iter().chain(of_try).min() {
                forwarding.changes.get_or_insert_default().expect_within(limit);
            }
        }
    }

    /// What the route changes in the request.
    pub(in crate::http) fn changes(&self) -> Option<&RequestChanges<'v>> {
        match &self.action {
            Action::Forward(forwarding) => forwarding.changes.as_deref(),
            Action::Reply(_) | Action::Redirect(..) | Action::Unescape(_) => None,
        }
    }

    /// Answers it here, whatever the route does with it otherwise.
    pub(in crate::http) fn answer_here(&mut self, reply: LocalReply<'v>) {
        self.action = Action::Reply(reply);
        if let Some(followed) = &mut self.route {
            followed.asks_at = None;
        }
    }

    /// Does what the cross-origin rules of the route say.
    pub(super) fn apply(&mut self, verdict: cors::Verdict) {
        match verdict {
            cors::Verdict::Unconcerned => {}
            cors::Verdict::Allowed(lines) => self.answer.get_or_insert_default().push_set(lines),
            cors::Verdict::Preflight(lines) => {
                let mut answer = AnswerChanges::default();
                answer.push_set(lines);
                self.answer = Some(Box::new(answer));
                self.answer_here(LocalReply::PREFLIGHT);
            }
        }
    }

    pub(super) fn new(action: Action<'v>, grpc: bool) -> Self {
        Self { action, cluster: None, route: None, answer: None, grpc, grpc_web: None }
    }

    /// Makes a call of a client of gRPC-Web one of gRPC. Endpoints of HTTP/1 have no trailers to tell the client of, so
    /// they get what it says.
    pub(super) fn bridge(&mut self, web: GrpcWeb, view: &View) {
        if let Action::Forward(forwarding) = &mut self.action {
            if view.snapshot.cluster(forwarding.cluster).protocol != UpstreamProtocol::Http2 {
                self.grpc = false;
                return;
            }
            forwarding.changes.get_or_insert_default().speak_grpc();
        }
        self.grpc_web = Some(web);
    }
}
