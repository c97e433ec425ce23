//! How long a request may take and when it is tried again, in words.

use crate::{
    Direction, Forward, RequestHead, RequestOverrides, RetryCondition, RetryPolicy, TimeLimitOf, is_grpc,
};

/// What the data plane makes of the route, the client's deadline and what the application asks for.
pub(super) fn describe(forward: &Forward, request: &impl RequestHead, direction: Direction) -> Vec<String> {
    let overrides = RequestOverrides::of(direction, request);
    let limit = forward.time_limit(request, overrides.as_deref(), is_grpc(request));
    let source = match limit.of {
        TimeLimitOf::Route => "",
        TimeLimitOf::Deadline => ", the client's deadline (grpc-timeout)",
        TimeLimitOf::Request => ", as the request itself asks (x-envoy-upstream-rq-timeout-ms)",
    };
    let time = match (limit.time, limit.of) {
        (Some(time), _) => Some(format!("timeout {time:?}{source}")),
        (None, TimeLimitOf::Request) => Some(format!("no timeout{source}")),
        (None, _) => None,
    };
    let retries = match overrides.filter(|overrides| overrides.changes_retries()) {
        None => forward.retries.as_deref().map(policy),
        Some(overrides) => Some(policy(&overrides.applied_to(forward.retries.as_deref())) + ASKED),
    };
    let believes = direction == Direction::Outbound;
    let unheard = (!believes && RequestOverrides::of(Direction::Outbound, request).is_some())
        .then(|| "x-envoy-… fields about time and retries are not believed: only an application asks its own sidecar".to_owned());
    time.into_iter().chain(retries).chain(unheard).collect()
}

const ASKED: &str = ", as the request itself asks (x-envoy-…)";

/// Only what can ever come true: codes that nobody named, and fields that nobody can name, are never met.
fn policy(retries: &RetryPolicy) -> String {
    let acts = |condition: &RetryCondition| {
        !matches!(
            condition,
            RetryCondition::RetriableStatusCodes
                | RetryCondition::RetriableHeaders
                | RetryCondition::Http3PostConnectFailure
        )
    };
    let conditions = retries.on.conditions.iter().copied().filter(acts).map(|c| c.name().to_owned());
    let statuses = retries.on.statuses.iter().map(ToString::to_string);
    let on: Vec<_> = conditions.chain(statuses).collect();
    if on.is_empty() {
        return "no retries: nothing that they are for can happen".to_owned();
    }
    let number = match retries.attempts {
        1 => "1 retry".to_owned(),
        number => format!("{number} retries"),
    };
    let each = retries.per_try_timeout.map_or(String::new(), |time| format!(", each try within {time:?}"));
    let harmless = if retries.only_idempotent { ", if that does no harm by its method" } else { "" };
    format!("up to {number} on {}{each}{harmless}", on.join(","))
}
