//! Fields by which proxies of a mesh tell each other what to do and what they did (`x-envoy-…`).

use snapshot::{Direction, after_envoy_prefix};

/// Whether a field of a client's goes no further than this proxy, as in Envoy: for the router alone, or, at gateways,
/// not to be believed when it comes from outside.
pub(super) fn is_dropped(name: &str, direction: Direction) -> bool {
    let Some(rest) = after_envoy_prefix(name) else { return false };
    let among = |names: &[&str]| names.iter().any(|name| rest.eq_ignore_ascii_case(name));
    among(&OF_ROUTERS)
        || among(&OF_PROXIES)
        || match direction {
            Direction::Gateway => among(&OF_THE_MESH),
            // The application has no use for it.
            Direction::Inbound => among(&[DECORATOR_OPERATION]),
            Direction::Outbound => false,
        }
}

/// What Envoy removes of every request whose client is not within its internal addresses, of which Istio names none.
const OF_ROUTERS: [&str; 16] = [
    "expected-rq-timeout-ms",
    "force-trace",
    "hedge-on-per-try-timeout",
    "internal",
    "ip-tags",
    "max-retries",
    "original-url",
    "retriable-header-names",
    "retriable-status-codes",
    "retry-grpc-on",
    "retry-on",
    "upstream-alt-stat-name",
    "upstream-rq-per-try-timeout-ms",
    "upstream-rq-timeout-alt-response",
    "upstream-rq-timeout-ms",
    "upstream-stream-duration-ms",
];

/// By which proxies of the mesh introduce themselves to the next one: applications have no use for it, and may not say it.
const OF_PROXIES: [&str; 2] = ["peer-metadata", "peer-metadata-id"];

/// What Envoy removes of requests from outside the mesh, too.
const OF_THE_MESH: [&str; 6] = [
    DECORATOR_OPERATION,
    "downstream-service-cluster",
    "downstream-service-node",
    "external-address",
    "original-host",
    "original-path",
];

const DECORATOR_OPERATION: &str = "decorator-operation";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_drops_what_is_not_for_the_next() {
        let dropped = |name| {
            [Direction::Outbound, Direction::Inbound, Direction::Gateway]
                .map(|direction| is_dropped(name, direction))
        };
        assert_eq!(dropped("X-Envoy-Upstream-Rq-Timeout-Ms"), [true; 3]);
        assert_eq!(dropped("x-envoy-original-path"), [false, false, true]);
        assert_eq!(dropped("x-envoy-decorator-operation"), [false, true, true]);
        assert_eq!(dropped("x-envoy-peer-metadata-id"), [true; 3]);
        for kept in ["x-envoy-attempt-count", "x-retry-on", "x-envoy-", "é-envoy"] {
            assert_eq!(dropped(kept), [false; 3], "{kept}");
        }
    }
}
