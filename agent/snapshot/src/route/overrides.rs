//! What an application asks of its own sidecar for one call, in fields that Envoy's router knows.
//!
//! Only calls that leave the workload may ask. The fields go no further, and from elsewhere they are not believed.

use std::time::Duration;

use super::{RetryCondition, RetryOn, RetryPolicy};
use crate::{Direction, RequestHead};

/// What the request asks for in place of what its route says (the `x-envoy-…` fields that Envoy's router consumes).
#[derive(Debug, Default, Eq, PartialEq)]
pub struct RequestOverrides {
    /// Limit for the whole request instead of the route's and of gRPC's; zero is none.
    pub(super) timeout: Option<Duration>,
    /// Limit for one try instead of the route's; zero is none.
    per_try_timeout: Option<Duration>,
    /// Tries after the first instead of the route's, if there is anything to try again for.
    max_retries: Option<u32>,
    /// Comes to what the route tries again for.
    on: RetryOn,
}

impl RequestOverrides {
    /// What the fields of a request ask for, if anything.
    pub fn of(direction: Direction, request: &impl RequestHead) -> Option<Box<Self>> {
        let mut overrides: Option<Box<Self>> = None;
        if direction == Direction::Outbound {
            request.visit_headers(&mut |name, value| {
                if let Some(name) = after_envoy_prefix(name)
                    && let Ok(value) = std::str::from_utf8(value)
                {
                    overrides.get_or_insert_default().take(name, value);
                }
            });
        }
        overrides.filter(|overrides| **overrides != Self::default())
    }

    /// Reads one field by what follows `x-envoy-` in its name. What is no number or no condition asks for nothing.
    fn take(&mut self, name: &str, value: &str) {
        let words = || value.split(',').map(str::trim);
        let conditions = |of_grpc| {
            let known = words().filter_map(RetryCondition::of_name);
            known.filter(move |condition| condition.is_of_grpc() == of_grpc)
        };
        match name.to_ascii_lowercase().as_str() {
            "upstream-rq-timeout-ms" => self.timeout = milliseconds(value),
            "upstream-rq-per-try-timeout-ms" => self.per_try_timeout = milliseconds(value),
            "max-retries" => self.max_retries = value.trim().parse().ok(),
            "retry-on" => self.on.conditions.extend(conditions(false)),
            "retry-grpc-on" => self.on.conditions.extend(conditions(true)),
            "retriable-status-codes" => self.on.statuses.extend(words().flat_map(str::parse::<u16>)),
            _ => {}
        }
    }

    /// Whether the route's retries are not what counts.
    pub fn changes_retries(&self) -> bool {
        let Self { timeout: _, per_try_timeout, max_retries, on } = self;
        per_try_timeout.is_some() || max_retries.is_some() || *on != RetryOn::default()
    }

    /// The route's policy with what is asked for.
    #[must_use]
    pub fn applied_to(&self, of_route: Option<&RetryPolicy>) -> RetryPolicy {
        let mut policy = of_route.cloned().unwrap_or_else(envoy_default);
        policy.on.merge(&self.on);
        if let Some(attempts) = self.max_retries.filter(|_| !policy.on.conditions.is_empty()) {
            policy.attempts = attempts;
        }
        if let Some(limit) = self.per_try_timeout {
            policy.per_try_timeout = Some(limit).filter(|limit| !limit.is_zero());
        }
        policy
    }
}

/// What follows `x-envoy-` in the name of a field, if that is how it begins.
#[inline]
pub fn after_envoy_prefix(name: &str) -> Option<&str> {
    const PREFIX: &str = "x-envoy-";
    let (start, rest) = name.split_at_checked(PREFIX.len())?;
    start.eq_ignore_ascii_case(PREFIX).then_some(rest)
}

fn milliseconds(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_millis)
}

/// What Envoy does on routes that have no policy, once it has a condition.
fn envoy_default() -> RetryPolicy {
    RetryPolicy {
        attempts: 1,
        on: RetryOn::default(),
        per_try_timeout: None,
        backoff: Duration::from_millis(25),
        avoid_previous_hosts: false,
        remote_localities: false,
        only_idempotent: false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Fields, RetryCondition as On, *};

    fn overrides(direction: Direction, fields: &[(&str, &str)]) -> Option<Box<RequestOverrides>> {
        RequestOverrides::of(direction, &Fields(fields))
    }

    #[test]
    fn only_the_application_may_ask() {
        let field = [("X-Envoy-Upstream-Rq-Timeout-Ms", "250")];
        assert_eq!(overrides(Direction::Outbound, &field).unwrap().timeout, Some(Duration::from_millis(250)));
        assert_eq!(overrides(Direction::Inbound, &field), None);
        assert_eq!(overrides(Direction::Gateway, &field), None);
    }

    #[test]
    fn what_cannot_be_read_asks_for_nothing() {
        for field in [
            ("x-envoy-upstream-rq-timeout-ms", "soon"),
            ("x-envoy-max-retries", "-1"),
            ("x-envoy-retry-on", "cancelled, nonsense"),
            ("x-envoy-retry-grpc-on", "5xx"),
            ("x-envoy-attempt-count", "2"),
            ("x-other", "1"),
        ] {
            assert_eq!(overrides(Direction::Outbound, &[field]), None, "{field:?}");
        }
    }

    #[test]
    fn conditions_come_to_those_of_the_route_and_the_number_takes_its_place() {
        let of_route = RetryPolicy {
            attempts: 2,
            on: RetryOn { conditions: vec![On::ConnectFailure], statuses: Vec::new() },
            ..envoy_default()
        };
        let asked = |fields: &[(&str, &str)], of_route| {
            let policy = overrides(Direction::Outbound, fields).unwrap().applied_to(of_route);
            (policy.attempts, policy.on)
        };
        let on = |conditions: &[On], statuses: &[u16]| RetryOn {
            conditions: conditions.to_vec(),
            statuses: statuses.to_vec(),
        };
        let (words, number, codes) =
            ("x-envoy-retry-on", ("x-envoy-max-retries", "7"), "x-envoy-retriable-status-codes");
        let both = asked(&[(words, "5xx"), number], Some(&of_route));
        assert_eq!(both, (7, on(&[On::ConnectFailure, On::ServerError], &[])));
        assert_eq!(asked(&[(words, "reset")], None), (1, on(&[On::Reset], &[])));
        // A number of tries alone tries nothing again.
        assert_eq!(asked(&[number], None), (1, on(&[], &[])));
        let statuses = asked(&[(codes, "502,429"), (words, "retriable-status-codes")], None);
        assert_eq!(statuses, (1, on(&[On::RetriableStatusCodes], &[429, 502])));
        // Codes count only with their condition.
        assert_eq!(asked(&[(codes, "429")], None), (1, on(&[], &[])));
    }

    #[test]
    fn an_empty_remainder_is_one() {
        assert_eq!(
            ["x-envoy-", "X-Envoy-A", "é-envoy", "x-retry-on"].map(after_envoy_prefix),
            [Some(""), Some("A"), None, None]
        );
    }
}
