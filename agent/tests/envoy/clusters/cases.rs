//! Clusters with rules of their own, and what they are asked.

use self::Step::*;

/// A cluster, and how it is written for either proxy.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) behind: Behind,
    /// `trafficPolicy` of the DestinationRule.
    pub(super) policy: &'static str,
    /// The same in Envoy's cluster.
    pub(super) envoy: &'static str,
    /// `retries` of the route, none where empty, and the same in Envoy's route.
    pub(super) retries: &'static str,
    pub(super) retry_policy: &'static str,
    pub(super) steps: &'static [Step],
}

#[derive(Clone, Copy)]
pub(super) enum Behind {
    /// Does what the end of a path says.
    Upstream,
    /// Refuses connections.
    Nobody,
}

/// A request; the last part of its path says what the endpoint does with it.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// One that the endpoint leaves without an answer.
    Hold(&'static str),
    /// One that waits for a connection, as the last that may.
    Wait(&'static str),
    /// Some whose answers are compared.
    Ask(&'static [&'static str]),
    /// Until the only endpoint is ejected, of which Envoy's workers learn a moment later.
    Ejected,
}

/// What is compared of metrics, after `envoy_cluster_`. Whether a retry budget is spent only the program tells.
pub(super) const COUNTERS: &[&str] = &[
    "circuit_breakers_default_cx_open",
    "circuit_breakers_default_rq_open",
    "circuit_breakers_default_rq_pending_open",
    "upstream_cx_overflow",
    "upstream_rq_pending_overflow",
    "upstream_rq_active_overflow",
    "upstream_rq_retry_overflow",
    "outlier_detection_ejections_active",
    "outlier_detection_ejections_enforced_total",
    "outlier_detection_ejections_enforced_consecutive_5xx",
    "outlier_detection_ejections_enforced_consecutive_gateway_failure",
    "outlier_detection_ejections_enforced_consecutive_local_origin_failure",
    "outlier_detection_ejections_overflow",
];

/// Istio ejects by what is counted only; its other rules, and Envoy's threshold of panic, are off.
macro_rules! detection {
    ($rules:literal) => {
        detection!($rules, "0")
    };
    ($rules:literal, $healthy:literal) => {
        concat!(
            "outlier_detection: {enforcing_success_rate: 0, interval: 600s, base_ejection_time: 600s, ",
            $rules,
            "}, common_lb_config: {healthy_panic_threshold: {value: ",
            $healthy,
            "}}, "
        )
    };
}

const NEVER: &str = "outlierDetection: {consecutive5xxErrors: 0, interval: 600s}";

const fn limited(
    name: &'static str,
    policy: &'static str,
    envoy: &'static str,
    steps: &'static [Step],
) -> Place {
    Place { name, behind: Behind::Upstream, policy, envoy, retries: "", retry_policy: "", steps }
}

const fn retried(
    name: &'static str,
    policy: &'static str,
    envoy: &'static str,
    steps: &'static [Step],
) -> Place {
    Place {
        retries: "attempts: 1, retryOn: 5xx",
        retry_policy: "retry_on: 5xx, num_retries: 1",
        ..limited(name, policy, envoy, steps)
    }
}

pub(super) const PLACES: &[Place] = &[
    limited(
        "connections",
        "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}",
        "circuit_breakers: {thresholds: [{max_connections: 1, max_pending_requests: 1}]}, ",
        &[Ask(&["plain"]), Hold("plain-unanswered"), Wait("plain"), Ask(&["plain"])],
    ),
    limited(
        "requests",
        "connectionPool: {http: {http2MaxRequests: 1}}",
        "circuit_breakers: {thresholds: [{max_requests: 1}]}, ",
        &[Ask(&["plain"]), Hold("plain-unanswered"), Ask(&["plain"])],
    ),
    retried(
        "retries",
        "connectionPool: {http: {maxRetries: 1}}",
        "circuit_breakers: {thresholds: [{max_retries: 1}]}, ",
        &[Ask(&["busy"]), Hold("again-unanswered"), Ask(&["busy", "close", "plain"])],
    ),
    retried(
        "budget",
        "retryBudget: {percent: 0, minRetryConcurrency: 1}",
        "circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 0}, \
         min_retry_concurrency: 1}}]}, ",
        &[Ask(&["busy"]), Hold("again-unanswered"), Ask(&["busy", "close", "plain"])],
    ),
    limited(
        "aged",
        "connectionPool: {tcp: {maxConnectionDuration: 0.3s}}",
        "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
         {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
         common_http_protocol_options: {max_connection_duration: 0.3s}, \
         explicit_http_config: {http_protocol_options: {}}}}, ",
        &[Ask(&["slow", "slow"])],
    ),
    limited(
        "errors",
        "outlierDetection: {consecutive5xxErrors: 2, interval: 600s, baseEjectionTime: 600s, \
         maxEjectionPercent: 100}",
        detection!("consecutive_5xx: 2, max_ejection_percent: 100"),
        &[Ask(&["busy", "plain", "busy", "busy"]), Ejected, Ask(&["plain"])],
    ),
    limited(
        "gateway-errors",
        "outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, interval: 600s, \
         baseEjectionTime: 600s, maxEjectionPercent: 100}",
        detection!(
            "enforcing_consecutive_5xx: 0, consecutive_gateway_failure: 2, \
             enforcing_consecutive_gateway_failure: 100, max_ejection_percent: 100"
        ),
        &[Ask(&["wrong", "wrong", "busy", "close"]), Ejected, Ask(&["plain"])],
    ),
    limited(
        "failures",
        "outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
         interval: 600s, baseEjectionTime: 600s, maxEjectionPercent: 100}",
        detection!(
            "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, \
             enforcing_consecutive_local_origin_failure: 100, enforcing_local_origin_success_rate: 0, \
             max_ejection_percent: 100"
        ),
        &[Ask(&["busy", "close", "close", "plain"])],
    ),
    Place {
        behind: Behind::Nobody,
        ..limited(
            "refusals",
            "outlierDetection: {consecutive5xxErrors: 2, interval: 600s, baseEjectionTime: 600s, \
             maxEjectionPercent: 100}",
            detection!("consecutive_5xx: 2, max_ejection_percent: 100"),
            &[Ask(&["plain", "plain"]), Ejected, Ask(&["plain"])],
        )
    },
    Place {
        behind: Behind::Nobody,
        ..limited(
            "split",
            "outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
             interval: 600s, baseEjectionTime: 600s, maxEjectionPercent: 100}",
            detection!(
                "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, \
                 enforcing_consecutive_local_origin_failure: 100, enforcing_local_origin_success_rate: 0, \
                 max_ejection_percent: 100"
            ),
            &[Ask(&["plain", "plain"]), Ejected, Ask(&["plain"])],
        )
    },
    limited(
        "panic",
        "outlierDetection: {consecutive5xxErrors: 2, interval: 600s, baseEjectionTime: 600s, \
         maxEjectionPercent: 100, minHealthPercent: 50}",
        detection!("consecutive_5xx: 2, max_ejection_percent: 100", "50"),
        &[Ask(&["busy", "busy"]), Ejected, Ask(&["plain", "busy"])],
    ),
    limited("never", NEVER, detection!("enforcing_consecutive_5xx: 0"), &[Ask(&["busy", "plain"])]),
];
