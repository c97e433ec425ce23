//! What a route does with a request, in words.

use std::fmt::Write;

use super::tries;
use crate::{
    AbortStatus, CameBy, CorsPolicy, CorsVerdict, Direction, Edits, Fault, Forward, HeaderEdits, PathRewrite,
    Redirect, RequestHead, Route, RouteAction, Share, TextMatch,
};

/// How a route's work ends.
pub(super) enum Ending<'r> {
    /// The proxy answers itself.
    Answered(String),
    /// Sent to one of these.
    Forwarded(&'r Forward),
}

/// What happens to the request on the way, in order, and how it ends.
pub(super) fn describe<'r>(
    route: &'r Route,
    request: &impl RequestHead,
    (direction, came_by): (Direction, CameBy),
) -> (Vec<String>, Ending<'r>) {
    let mut effects = Vec::new();
    if let Some(cors) = &route.cors {
        effects.push(describe_cors(cors));
        if let Some(answer) = preflight(cors, request) {
            return (effects, Ending::Answered(answer));
        }
    }
    if let Some(fault) = &route.fault {
        describe_fault(fault, &mut effects);
        if let Some((status, Share::ALL)) = fault.abort {
            return (effects, Ending::Answered(format!("{} FI fault_filter_abort", abort(status))));
        }
    }
    if let Some(headers) = &route.headers {
        describe_headers("", headers, &mut effects);
    }
    let ending = match &route.action {
        RouteAction::DirectResponse { status, body } => {
            Ending::Answered(format!("{status} answered by the route itself ({} bytes of body)", body.len()))
        }
        RouteAction::Redirect(redirect) => Ending::Answered(describe_redirect(redirect, request, came_by)),
        RouteAction::Forward(forward) => {
            describe_forward(forward, request, direction, &mut effects);
            Ending::Forwarded(forward)
        }
    };
    (effects, ending)
}

fn describe_cors(policy: &CorsPolicy) -> String {
    let origin = |origin: &TextMatch| match origin {
        TextMatch::Present => "any".to_owned(),
        TextMatch::Exact(text) => format!("`{text}`"),
        TextMatch::Prefix(text) => format!("`{text}`…"),
        TextMatch::Regex(pattern) => format!("regex `{}`", pattern.source()),
    };
    let origins: Vec<_> = policy.allow_origins.iter().map(origin).collect();
    let mut text = format!("cross-origin requests are allowed from {}", origins.join(", "));
    let lists = [("methods", &policy.allow_methods), ("headers", &policy.allow_headers)];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        _ = write!(text, ", {name} {list}");
    }
    text
}

/// What a preflight is answered by the proxy itself.
fn preflight(policy: &CorsPolicy, request: &impl RequestHead) -> Option<String> {
    match policy.judge(request) {
        CorsVerdict::Preflight(_) => Some("200 answered to the preflight: its origin is allowed".to_owned()),
        CorsVerdict::Denied => {
            Some("200 answered to the preflight without permission: its origin is not allowed".to_owned())
        }
        CorsVerdict::Allowed(_) | CorsVerdict::Unconcerned => None,
    }
}

fn describe_fault(fault: &Fault, effects: &mut Vec<String>) {
    if let Some((delay, share)) = fault.delay {
        effects.push(format!("{} % are delayed by {delay:?} (fault, flag DI)", share.percent()));
    }
    if let Some((status, share)) = fault.abort {
        effects.push(format!(
            "{} % are answered {} instead (fault, flag FI)",
            share.percent(),
            abort(status)
        ));
    }
}

fn abort(status: AbortStatus) -> String {
    match status {
        AbortStatus::Http(status) => status.to_string(),
        AbortStatus::Grpc(status) => format!("gRPC status {status}"),
    }
}

pub(super) fn describe_headers(whose: &str, headers: &HeaderEdits, effects: &mut Vec<String>) {
    for (side, edits) in [("request", &headers.request), ("answer", &headers.response)] {
        describe_edits(&format!("{side} header{whose}"), edits, effects);
    }
}

fn describe_edits(what: &str, edits: &Edits, effects: &mut Vec<String>) {
    effects.extend(edits.remove.iter().map(|name| format!("{what} `{name}` removed")));
    effects
        .extend(edits.set.iter().map(|(name, value)| format!("{what} `{name}` set to `{}`", value.source())));
    effects
        .extend(edits.add.iter().map(|(name, value)| format!("{what} `{name}` added: `{}`", value.source())));
}

fn describe_forward(
    forward: &Forward,
    request: &impl RequestHead,
    direction: Direction,
    effects: &mut Vec<String>,
) {
    if let Some(rewrite) = &forward.rewrite {
        if let Some(path) = &rewrite.path {
            let (from, to) = (request.path_and_query(), path.apply(request.path_and_query()));
            effects.push(format!("path rewritten from `{from}` to `{to}` ({})", path_rewrite(path)));
        }
        effects.extend(
            rewrite.authority.as_ref().map(|authority| format!("authority rewritten to `{authority}`")),
        );
    }
    effects.extend(tries::describe(forward, request, direction));
    for mirror in &forward.mirrors {
        effects.push(format!("{} % copied to {}", mirror.share.percent(), mirror.target.name));
    }
}

fn path_rewrite(rewrite: &PathRewrite) -> String {
    match rewrite {
        PathRewrite::Whole(path) => format!("the whole becomes `{path}`"),
        PathRewrite::Prefix { matched, text } => format!("the first {matched} bytes become `{text}`"),
        PathRewrite::Regex { search, replacement } => {
            format!("what matches `{}` becomes `{replacement}`", search.source())
        }
    }
}

fn describe_redirect(redirect: &Redirect, request: &impl RequestHead, came_by: CameBy) -> String {
    match redirect.location(request, came_by) {
        Some(location) => format!("{} redirect to {location}", redirect.status),
        None => "400 Bad Request: the request names no host to be sent to".to_owned(),
    }
}
