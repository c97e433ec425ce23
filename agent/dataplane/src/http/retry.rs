//! Whether a request is worth another try (`retries`), by Envoy's conditions. Pure: what happened goes in.

use std::time::Duration;

use snapshot::{Address, RetryCondition as On, RetryPolicy};

use super::{exchange::Broken, head::AnswerHead};

/// Whether the policy covers this answer. One of an overloaded proxy is never asked for again.
pub(super) fn covers_answer(policy: &RetryPolicy, grpc: bool, answer: &AnswerHead<'_>) -> bool {
    let status = answer.status();
    let is_named = policy.on.statuses.binary_search(&status).is_ok();
    // What most answers are told apart by; gRPC has its status in the head when there is no body.
    if status < 400 && !grpc && !is_named || answer.field("x-envoy-overloaded").is_some() {
        return false;
    }
    if answer.field("x-envoy-ratelimited").is_some() {
        return has(policy, On::EnvoyRateLimited);
    }
    is_named
        || (status >= 500 && has(policy, On::ServerError))
        || (matches!(status, 502..=504) && has(policy, On::GatewayError))
        || (status == 409 && has(policy, On::Retriable4xx))
        || (grpc && answer.field("grpc-status").is_some_and(|status| covers_grpc(policy, &status)))
}

fn covers_grpc(policy: &RetryPolicy, status: &[u8]) -> bool {
    let condition = match status {
        b"1" => On::GrpcCancelled,
        b"4" => On::GrpcDeadlineExceeded,
        b"8" => On::GrpcResourceExhausted,
        b"13" => On::GrpcInternal,
        b"14" => On::GrpcUnavailable,
        _ => return false,
    };
    has(policy, condition)
}

/// Whether the policy covers a try that ended without an answer.
pub(super) fn covers_failure(policy: &RetryPolicy, failure: &Broken) -> bool {
    let any_reset = has(policy, On::Reset) || has(policy, On::ServerError) || has(policy, On::GatewayError);
    match failure {
        Broken::Connect(error) if error.is_overflow() => false,
        Broken::Connect(_) => {
            any_reset || has(policy, On::ConnectFailure) || has(policy, On::ResetBeforeRequest)
        }
        Broken::Refused | Broken::LeftOut => any_reset || has(policy, On::RefusedStream),
        Broken::Closed | Broken::Reset | Broken::Protocol => any_reset,
        Broken::Late(late) => any_reset && late.is_of_one_try(),
        Broken::Downstream | Broken::Body | Broken::Malformed | Broken::Idle | Broken::Overdue(_) => false,
    }
}

/// How far a try came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AttemptProgress {
    /// There was no connection.
    NotConnected,
    /// The endpoint says that it has not looked at it.
    NotProcessed,
    /// The endpoint may have acted upon it.
    MaybeProcessed,
}

impl AttemptProgress {
    pub(super) fn of(failure: &Broken) -> Self {
        match failure {
            Broken::Connect(_) => Self::NotConnected,
            Broken::Refused | Broken::LeftOut => Self::NotProcessed,
            _ => Self::MaybeProcessed,
        }
    }
}

/// Whether the policy may ask for another try after an endpoint of HTTP/1 has seen the request, so that its body is kept.
pub(super) fn keeps_body(policy: &RetryPolicy, grpc: bool) -> bool {
    let after_the_body = |condition: &On| match condition {
        On::ConnectFailure | On::RefusedStream | On::ResetBeforeRequest | On::Http3PostConnectFailure => {
            false
        }
        On::RetriableStatusCodes
        | On::RetriableHeaders
        | On::GrpcCancelled
        | On::GrpcDeadlineExceeded
        | On::GrpcInternal
        | On::GrpcResourceExhausted
        | On::GrpcUnavailable => grpc,
        On::ServerError | On::GatewayError | On::Reset | On::EnvoyRateLimited | On::Retriable4xx => true,
    };
    !policy.on.statuses.is_empty() || policy.on.conditions.iter().any(after_the_body)
}

/// How long to wait before a try, the first after the first being number 1; `draw` is uniformly random.
pub(super) fn backoff(policy: &RetryPolicy, number: u32, draw: u64) -> Duration {
    let longest = policy.backoff.saturating_mul(10);
    let whole = policy.backoff.saturating_mul(1 << number.saturating_sub(1).min(10)).min(longest);
    let nanoseconds = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(draw % nanoseconds.max(1))
}

/// Those of the endpoints asked whose priorities the next try leaves (`retryRemoteLocalities`): after every second try,
/// which is the pace that Istio gives Envoy.
pub(super) fn leaves_priorities_of(asked: &[Address]) -> &[Address] {
    const PACE: usize = 2;
    &asked[..asked.len() - asked.len() % PACE]
}

fn has(policy: &RetryPolicy, condition: On) -> bool {
    policy.on.conditions.contains(&condition)
}

#[cfg(test)]
mod tests {
    use ::http::HeaderMap;
    use http1::BodyLength;
    use snapshot::RetryOn;

    use super::*;
    use crate::http::exchange::Late;

    fn policy(conditions: &[On], statuses: &[u16]) -> RetryPolicy {
        RetryPolicy {
            attempts: 2,
            on: RetryOn { conditions: conditions.to_vec(), statuses: statuses.to_vec() },
            per_try_timeout: None,
            backoff: Duration::from_millis(25),
            avoid_previous_hosts: true,
            remote_localities: false,
            only_idempotent: false,
        }
    }

    fn covered(policy: &RetryPolicy, status: u16, field: Option<(&'static str, &str)>) -> bool {
        let mut fields = HeaderMap::new();
        if let Some((name, value)) = field {
            fields.insert(name, value.parse().unwrap());
        }
        let head = AnswerHead::Http2 { status, fields: &fields, body: BodyLength::Empty };
        covers_answer(policy, field.is_some_and(|(name, _)| name == "grpc-status"), &head)
    }

    #[test]
    fn answers_are_covered_by_status() {
        let of = |conditions, statuses| {
            let policy = policy(conditions, statuses);
            [409, 429, 500, 502, 503].map(|status| covered(&policy, status, None))
        };
        assert_eq!(of(&[On::ServerError], &[]), [false, false, true, true, true]);
        assert_eq!(of(&[On::GatewayError], &[]), [false, false, false, true, true]);
        assert_eq!(of(&[On::Retriable4xx], &[]), [true, false, false, false, false]);
        assert_eq!(of(&[On::RetriableStatusCodes], &[429]), [false, true, false, false, false]);
        assert_eq!(of(&[On::RetriableStatusCodes, On::ConnectFailure], &[]), [false; 5]);
    }

    #[test]
    fn what_an_answer_says_of_load_and_grpc_counts() {
        let any = policy(&[On::ServerError, On::GrpcUnavailable], &[]);
        assert!(!covered(&any, 503, Some(("x-envoy-overloaded", "true"))));
        assert!(!covered(&any, 503, Some(("x-envoy-ratelimited", "true"))));
        assert!(covered(&policy(&[On::EnvoyRateLimited], &[]), 429, Some(("x-envoy-ratelimited", "true"))));
        assert!(covered(&any, 200, Some(("grpc-status", "14"))));
        assert!(!covered(&any, 200, Some(("grpc-status", "13"))));
    }

    #[test]
    fn failures_without_an_answer_are_no_status() {
        let numbers = policy(&[On::RetriableStatusCodes], &[503]);
        assert!(!covers_failure(&numbers, &Broken::Closed));
        let reset = policy(&[On::Reset], &[]);
        assert!(
            covers_failure(&reset, &Broken::Closed) && covers_failure(&reset, &Broken::Late(Late::OneTry))
        );
        assert!(!covers_failure(&reset, &Broken::Late(Late::Whole)));
        assert!(!covers_failure(&reset, &Broken::Downstream));
        let refused = policy(&[On::RefusedStream], &[]);
        assert!(covers_failure(&refused, &Broken::Refused) && !covers_failure(&refused, &Broken::Reset));
    }

    #[test]
    fn waits_double_up_to_ten_times_the_first() {
        let policy = policy(&[], &[]);
        let longest = |number| {
            let whole: u64 = [25, 50, 100, 200, 250, 250][number as usize - 1] * 1_000_000;
            (backoff(&policy, number, whole - 1), backoff(&policy, number, whole))
        };
        for number in 1..=6 {
            let (most, wrapped) = longest(number);
            assert!(most >= Duration::from_millis(24) && wrapped == Duration::ZERO, "{number}");
        }
    }

    #[test]
    fn bodies_are_kept_only_for_conditions_that_come_after_them() {
        let default = policy(
            &[On::ConnectFailure, On::RefusedStream, On::GrpcUnavailable, On::RetriableStatusCodes],
            &[],
        );
        assert!(!keeps_body(&default, false) && keeps_body(&default, true));
        assert!(!keeps_body(&policy(&[On::ConnectFailure], &[]), false));
        assert!(keeps_body(&policy(&[On::ServerError], &[]), false));
        assert!(keeps_body(&policy(&[On::RetriableStatusCodes], &[503]), false));
    }
}
