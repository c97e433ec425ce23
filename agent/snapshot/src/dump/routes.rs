//! Route tables in Envoy's form.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{istio_metadata, seconds, virtual_service_config};
use crate::route::{
    AbortStatus, CorsPolicy, Edits, Fault, Forward, HeaderEdits, HeaderMatch, PathMatch, PathRewrite,
    QueryMatch, Redirect, RedirectPort, RetryPolicy, Route, RouteAction, RouteConfig, RouteMatch, Share,
    TextMatch, VirtualHost, WeightedClusters,
};

pub(super) fn route_config(config: &RouteConfig) -> Value {
    let hosts: Vec<_> = config.virtual_hosts().iter().map(virtual_host).collect();
    json!({"name": config.name(), "virtual_hosts": hosts})
}

fn virtual_host(host: &VirtualHost) -> Value {
    let domains: Vec<_> = host.domains.iter().map(ToString::to_string).collect();
    let routes: Vec<_> = host.routes.iter().map(route).collect();
    let mut dump = json!({"name": host.name, "domains": domains, "routes": routes});
    if host.require_tls {
        dump["require_tls"] = "ALL".into();
    }
    dump
}

fn route(route: &Route) -> Value {
    let mut dump = json!({"match": route_match(&route.matches)});
    if let Some(name) = &route.name {
        dump["name"] = name.as_str().into();
    }
    if let Some(prefix) = route.stat_prefix.as_deref() {
        dump["stat_prefix"] = prefix.into();
    }
    match &route.action {
        RouteAction::Forward(to) => dump["route"] = forward(to),
        RouteAction::Redirect(to) => dump["redirect"] = redirect(to),
        RouteAction::DirectResponse { status, body } => {
            dump["direct_response"] = json!({"status": status, "body": {"inline_string": body}});
        }
    }
    if let Some(headers) = &route.headers {
        add_edits(&mut dump, headers);
    }
    let mut filters = Map::new();
    if let Some(policy) = &route.cors {
        filters.insert("envoy.filters.http.cors".to_owned(), cors(policy));
    }
    if let Some(injected) = &route.fault {
        filters.insert("envoy.filters.http.fault".to_owned(), fault(injected));
    }
    if !filters.is_empty() {
        dump["typed_per_filter_config"] = filters.into();
    }
    if let Some(id) = route.virtual_service.as_deref() {
        dump["metadata"] = istio_metadata(json!({"config": virtual_service_config(id)}));
    }
    dump
}

fn route_match(matches: &RouteMatch) -> Value {
    let mut dump = path_match(&matches.path);
    let pseudo =
        [(":scheme", &matches.scheme), (":method", &matches.method), (":authority", &matches.authority)];
    let pseudo = pseudo.into_iter().filter_map(|(name, condition)| Some(header(name, condition.as_ref()?)));
    let headers: Vec<_> = pseudo.chain(matches.headers.iter().map(header_match)).collect();
    if !headers.is_empty() {
        dump["headers"] = headers.into();
    }
    if !matches.query_params.is_empty() {
        dump["query_parameters"] = matches.query_params.iter().map(query_match).collect();
    }
    dump
}

fn path_match(path: &PathMatch) -> Value {
    match path {
        PathMatch::Any => json!({"prefix": "/"}),
        PathMatch::Exact(path) => json!({"path": path.text, "case_sensitive": !path.ignore_case}),
        PathMatch::Prefix(prefix) => json!({"prefix": prefix.text, "case_sensitive": !prefix.ignore_case}),
        PathMatch::Regex(pattern) => json!({"safe_regex": {"regex": pattern.source()}}),
    }
}

fn header(name: &str, condition: &TextMatch) -> Value {
    match text_match(condition) {
        Some(condition) => json!({"name": name, "string_match": condition}),
        None => json!({"name": name, "present_match": true}),
    }
}

fn header_match(wanted: &HeaderMatch) -> Value {
    let mut dump = header(&wanted.name, &wanted.condition);
    if wanted.invert {
        dump["invert_match"] = true.into();
        if wanted.condition != TextMatch::Present {
            dump["treat_missing_header_as_empty"] = true.into();
        }
    }
    dump
}

fn query_match(wanted: &QueryMatch) -> Value {
    match text_match(&wanted.condition) {
        Some(condition) => json!({"name": wanted.name, "string_match": condition}),
        None => json!({"name": wanted.name, "present_match": true}),
    }
}

/// Envoy's `StringMatcher`; presence is said otherwise.
fn text_match(condition: &TextMatch) -> Option<Value> {
    Some(match condition {
        TextMatch::Present => return None,
        TextMatch::Exact(text) => json!({"exact": text}),
        TextMatch::Prefix(text) => json!({"prefix": text}),
        TextMatch::Regex(pattern) => json!({"safe_regex": {"regex": pattern.source()}}),
    })
}

fn forward(forward: &Forward) -> Value {
    let mut dump = destination(&forward.clusters);
    dump["timeout"] = seconds(forward.timeout.unwrap_or(Duration::ZERO)).into();
    if let Some(retries) = &forward.retries {
        dump["retry_policy"] = retry_policy(retries);
    }
    if let Some(rewrite) = &forward.rewrite {
        match &rewrite.path {
            None => {}
            Some(PathRewrite::Whole(path)) => dump["path_rewrite"] = path.as_str().into(),
            Some(PathRewrite::Prefix { text, .. }) => dump["prefix_rewrite"] = text.as_str().into(),
            Some(PathRewrite::Regex { search, replacement }) => {
                dump["regex_rewrite"] =
                    json!({"pattern": {"regex": search.source()}, "substitution": replacement});
            }
        }
        if let Some(authority) = &rewrite.authority {
            dump["host_rewrite_literal"] = authority.as_str().into();
        }
    }
    if !forward.mirrors.is_empty() {
        let mirror = |mirror: &crate::Mirror| {
            json!({
                "cluster": mirror.target.name,
                "runtime_fraction": {"default_value": share(mirror.share)},
                "disable_shadow_host_suffix_append": !mirror.marks_host,
            })
        };
        dump["request_mirror_policies"] = forward.mirrors.iter().map(mirror).collect();
    }
    dump
}

/// `cluster`, or `weighted_clusters` when there are several.
pub(super) fn destination(clusters: &WeightedClusters) -> Value {
    match clusters.targets() {
        [only] => {
            let mut dump = json!({"cluster": only.name});
            if let Some(headers) = &only.headers {
                add_edits(&mut dump, headers);
            }
            dump
        }
        several => {
            let target = |target: &crate::ClusterTarget| {
                let mut dump = json!({"name": target.name, "weight": target.weight});
                if let Some(headers) = &target.headers {
                    add_edits(&mut dump, headers);
                }
                dump
            };
            json!({"weighted_clusters": {"clusters": several.iter().map(target).collect::<Vec<_>>()}})
        }
    }
}

fn retry_policy(policy: &RetryPolicy) -> Value {
    let conditions: Vec<_> = policy.on.conditions.iter().map(|condition| condition.name()).collect();
    let mut dump = json!({
        "retry_on": conditions.join(","),
        "num_retries": policy.attempts,
        "retry_back_off": {"base_interval": seconds(policy.backoff)},
    });
    if !policy.on.statuses.is_empty() {
        dump["retriable_status_codes"] = policy.on.statuses.as_slice().into();
    }
    if let Some(timeout) = policy.per_try_timeout {
        dump["per_try_timeout"] = seconds(timeout).into();
    }
    if policy.avoid_previous_hosts {
        dump["retry_host_predicate"] = json!([{"name": "envoy.retry_host_predicates.previous_hosts"}]);
        dump["host_selection_retry_max_attempts"] = "5".into();
    }
    dump
}

fn redirect(redirect: &Redirect) -> Value {
    let mut dump = json!({"response_code": redirect_code(redirect.status)});
    match &redirect.path {
        None => {}
        Some(PathRewrite::Whole(path)) => dump["path_redirect"] = path.as_str().into(),
        Some(PathRewrite::Prefix { text, .. }) => dump["prefix_rewrite"] = text.as_str().into(),
        Some(PathRewrite::Regex { search, replacement }) => {
            dump["regex_rewrite"] =
                json!({"pattern": {"regex": search.source()}, "substitution": replacement});
        }
    }
    if let Some(authority) = &redirect.authority {
        dump["host_redirect"] = authority.as_str().into();
    }
    if let Some(RedirectPort::Number(port)) = redirect.port {
        dump["port_redirect"] = port.into();
    }
    if let Some(scheme) = &redirect.scheme {
        dump["scheme_redirect"] = scheme.as_str().into();
    }
    dump
}

fn redirect_code(status: u16) -> &'static str {
    match status {
        302 => "FOUND",
        303 => "SEE_OTHER",
        307 => "TEMPORARY_REDIRECT",
        308 => "PERMANENT_REDIRECT",
        _ => "MOVED_PERMANENTLY",
    }
}

fn cors(policy: &CorsPolicy) -> Value {
    let origins: Vec<_> = policy.allow_origins.iter().filter_map(text_match).collect();
    let mut dump = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": origins,
        "allow_credentials": policy.allow_credentials,
        "forward_not_matching_preflights": !policy.ignore_unmatched_preflights,
    });
    let lists = [
        ("allow_methods", &policy.allow_methods),
        ("allow_headers", &policy.allow_headers),
        ("expose_headers", &policy.expose_headers),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        dump[name] = list.as_str().into();
    }
    if let Some(age) = policy.max_age {
        dump["max_age"] = age.to_string().into();
    }
    dump
}

fn fault(fault: &Fault) -> Value {
    let mut dump = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"});
    if let Some((delay, part)) = fault.delay {
        dump["delay"] = json!({"fixed_delay": seconds(delay), "percentage": share(part)});
    }
    if let Some((status, part)) = fault.abort {
        let (field, status) = match status {
            AbortStatus::Http(status) => ("http_status", status),
            AbortStatus::Grpc(status) => ("grpc_status", status.into()),
        };
        dump["abort"] = json!({field: status, "percentage": share(part)});
    }
    dump
}

fn share(share: Share) -> Value {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a percentage times 10,000")]
    let numerator = (share.percent() * 10_000.0).round() as u32;
    json!({"numerator": numerator, "denominator": "MILLION"})
}

fn add_edits(dump: &mut Value, headers: &HeaderEdits) {
    for (side, edits) in [("request", &headers.request), ("response", &headers.response)] {
        if !edits.remove.is_empty() {
            dump[format!("{side}_headers_to_remove")] = edits.remove.as_slice().into();
        }
        let lines = header_lines(edits);
        if !lines.is_empty() {
            dump[format!("{side}_headers_to_add")] = lines.into();
        }
    }
}

fn header_lines(edits: &Edits) -> Vec<Value> {
    let set = edits.set.iter().map(|line| (line, "OVERWRITE_IF_EXISTS_OR_ADD"));
    let add = edits.add.iter().map(|line| (line, "APPEND_IF_EXISTS_OR_ADD"));
    set.chain(add)
        .map(|((name, value), how)| {
            json!({"header": {"key": name, "value": value.source()}, "append_action": how})
        })
        .collect()
}
