//! One line for a route: conditions, action, changes.

use std::fmt::Write;

use snapshot::{
    AbortStatus, ClusterTarget, CorsPolicy, Edits, Fault, Forward, HeaderEdits, PathMatch, PathRewrite,
    PathText, Redirect, RetryPolicy, Route, RouteAction, RouteMatch, Snapshot, TextMatch, WeightedClusters,
};

/// A route; handles are followed and must lead to what they name.
pub(crate) fn route(snapshot: &Snapshot, route: &Route) -> String {
    let action = match &route.action {
        RouteAction::Forward(forward) => forwarded(snapshot, forward),
        RouteAction::Redirect(redirect) => redirected(redirect),
        RouteAction::DirectResponse { status, body } => format!("answer {status} {body:?}"),
    };
    let mut text = format!("{} -> {action}", conditions(&route.matches));
    if let Some(name) = &route.name {
        write!(text, " name={name}").unwrap();
    }
    if let Some(prefix) = &route.stat_prefix {
        write!(text, " counted={prefix}").unwrap();
    }
    if let Some(owner) = &route.virtual_service {
        write!(text, " by {owner}").unwrap();
    }
    text.extend(route.headers.as_deref().map(headers));
    text.extend(route.cors.as_deref().map(cors));
    text.extend(route.fault.as_deref().map(fault));
    text
}

fn conditions(matches: &RouteMatch) -> String {
    let mut text = match &matches.path {
        PathMatch::Any => "any".to_owned(),
        PathMatch::Exact(path) => format!("exact {}", path_text(path)),
        PathMatch::Prefix(path) => format!("prefix {}", path_text(path)),
        PathMatch::Regex(pattern) => format!("regex {}", pattern.source()),
    };
    let named = [("scheme", &matches.scheme), ("method", &matches.method), ("authority", &matches.authority)];
    for (name, condition) in named {
        text.extend(condition.as_ref().map(|condition| format!(" {name} {}", text_match(condition))));
    }
    for header in &matches.headers {
        let negation = if header.invert { "not " } else { "" };
        write!(text, " header {}: {negation}{}", header.name, text_match(&header.condition)).unwrap();
    }
    for param in &matches.query_params {
        write!(text, " query {}: {}", param.name, text_match(&param.condition)).unwrap();
    }
    text
}

fn path_text(path: &PathText) -> String {
    format!("{}{}", path.text, if path.ignore_case { " (any case)" } else { "" })
}

fn text_match(condition: &TextMatch) -> String {
    match condition {
        TextMatch::Present => "present".to_owned(),
        TextMatch::Exact(text) => format!("={text}"),
        TextMatch::Prefix(text) => format!("={text}*"),
        TextMatch::Regex(pattern) => format!("~{}", pattern.source()),
    }
}

fn forwarded(snapshot: &Snapshot, forward: &Forward) -> String {
    let mut text = targets(snapshot, &forward.clusters);
    if let Some(rewrite) = &forward.rewrite {
        text.extend(rewrite.path.as_ref().map(|path| format!(" rewrite {}", path_rewrite(path))));
        text.extend(rewrite.authority.as_ref().map(|authority| format!(" host={authority}")));
    }
    text.extend(forward.timeout.map(|timeout| format!(" timeout={timeout:?}")));
    text.push_str(&retries(forward.retries.as_deref()));
    for mirror in &forward.mirrors {
        write!(text, " mirror {} {}%", target(snapshot, &mirror.target), mirror.share.percent()).unwrap();
    }
    text
}

/// Nothing for Istio's default.
fn retries(policy: Option<&RetryPolicy>) -> String {
    let Some(policy) = policy else { return " no-retries".to_owned() };
    let on: Vec<String> = policy.on.conditions.iter().map(|condition| format!("{condition:?}")).collect();
    let statuses: Vec<String> = policy.on.statuses.iter().map(ToString::to_string).collect();
    let text = format!(" retries={} on {}", policy.attempts, [on, statuses].concat().join(","));
    if text == " retries=2 on ConnectFailure,RefusedStream,GrpcUnavailable,GrpcCancelled,RetriableStatusCodes"
    {
        return String::new();
    }
    let per_try = policy.per_try_timeout.map_or(String::new(), |time| format!(" per-try={time:?}"));
    let backoff = format!(" backoff={:?}", policy.backoff);
    let again = if policy.avoid_previous_hosts { "" } else { " same-hosts" };
    let remote = if policy.remote_localities { " remote" } else { "" };
    format!("{text}{per_try}{backoff}{again}{remote}")
}

fn path_rewrite(rewrite: &PathRewrite) -> String {
    match rewrite {
        PathRewrite::Whole(text) => format!("whole->{text}"),
        PathRewrite::Prefix { matched, text } => format!("first {matched}->{text}"),
        PathRewrite::Regex { search, replacement } => format!("~{}->{replacement}", search.source()),
    }
}

fn redirected(redirect: &Redirect) -> String {
    let mut text = format!("redirect {}", redirect.status);
    text.extend(redirect.scheme.as_ref().map(|scheme| format!(" scheme={scheme}")));
    text.extend(redirect.authority.as_ref().map(|authority| format!(" host={authority}")));
    text.extend(redirect.port.map(|port| format!(" port={port:?}")));
    text.extend(redirect.path.as_ref().map(|path| format!(" {}", path_rewrite(path))));
    text
}

fn headers(headers: &HeaderEdits) -> String {
    edits("request", &headers.request) + &edits("response", &headers.response)
}

fn edits(of: &str, edits: &Edits) -> String {
    let mut text = String::new();
    edits.remove.iter().for_each(|name| write!(text, " {of}-{name}").unwrap());
    edits.set.iter().for_each(|(name, value)| write!(text, " {of}={name}:{}", value.source()).unwrap());
    edits.add.iter().for_each(|(name, value)| write!(text, " {of}+{name}:{}", value.source()).unwrap());
    text
}

fn cors(policy: &CorsPolicy) -> String {
    let origins: Vec<String> = policy.allow_origins.iter().map(text_match).collect();
    let CorsPolicy { allow_methods, allow_headers, expose_headers, .. } = policy;
    let age = policy.max_age.map_or(String::new(), |age| format!(" age={age}"));
    let credentials = if policy.allow_credentials { " credentials" } else { "" };
    let others = if policy.ignore_unmatched_preflights { " ignore-others" } else { "" };
    let lists = format!("methods={allow_methods} headers={allow_headers} exposed={expose_headers}");
    format!(" cors[{} {lists}{age}{credentials}{others}]", origins.join(" "))
}

fn fault(fault: &Fault) -> String {
    let delay = fault.delay.map(|(time, share)| format!(" delay {time:?} {}%", share.percent()));
    let abort = fault.abort.map(|(status, share)| {
        let status = match status {
            AbortStatus::Http(status) => status.to_string(),
            AbortStatus::Grpc(code) => format!("grpc {code}"),
        };
        format!(" abort {status} {}%", share.percent())
    });
    delay.into_iter().chain(abort).collect()
}

/// Clusters with their weights.
pub(crate) fn targets(snapshot: &Snapshot, clusters: &WeightedClusters) -> String {
    let several = clusters.targets().len() > 1;
    let weighted = |one: &ClusterTarget| {
        let weight = if several { format!("*{}", one.weight) } else { String::new() };
        target(snapshot, one) + &weight
    };
    clusters.targets().iter().map(weighted).collect::<Vec<_>>().join(" ")
}

/// A cluster; `?` marks one that does not exist.
fn target(snapshot: &Snapshot, target: &ClusterTarget) -> String {
    let known = match target.id {
        Some(id) => {
            assert_eq!(
                snapshot.cluster(id).name,
                target.name,
                "a handle must lead to the cluster of that name"
            );
            ""
        }
        None => "?",
    };
    let host = target.authority.as_ref().map_or(String::new(), |host| format!(" host={host}"));
    let edits = target.headers.as_deref().map_or(String::new(), headers);
    match host.len() + edits.len() {
        0 => format!("{}{known}", target.name),
        _ => format!("({}{known}{host}{edits})", target.name),
    }
}
