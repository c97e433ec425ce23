//! When and how often to try again.

use std::time::Duration;

use super::check_one_of;
use crate::{
    Path,
    decode::{Context, Fields, Interval, Shape},
    finding::Problem,
};

/// When and how often to try again (`HTTPRetry`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retries {
    /// Number of further tries; 0 turns retrying off.
    pub attempts: i32,
    /// Longest time of one try.
    pub per_try_timeout: Option<Duration>,
    /// Conditions, comma-separated; Istio's default when absent.
    pub retry_on: Option<String>,
    /// Whether other localities may be tried.
    pub retry_remote_localities: Option<bool>,
    /// Whether hosts already tried are avoided.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Shortest pause between tries.
    pub backoff: Option<Duration>,
}

/// The conditions that `retryOn` may name, besides status codes.
pub const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl Shape for Retries {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            attempts: fields.or_default("attempts"),
            per_try_timeout: fields.optional("perTryTimeout").map(Interval::get),
            retry_on: fields.optional("retryOn").filter(|words: &String| !words.is_empty()),
            retry_remote_localities: fields.optional("retryRemoteLocalities"),
            retry_ignore_previous_hosts: fields.optional("retryIgnorePreviousHosts"),
            backoff: fields.optional("backoff").map(Interval::get),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.attempts < 0 {
            let problem = Problem::new("is negative").found(self.attempts).expected("0 or more");
            context.error(&at.field("attempts"), problem);
        }
        if self.attempts == 0 && *self != Self::default() {
            let problem =
                Problem::new("is 0 or missing, which turns retries off, yet other settings are written");
            context.error(&at.field("attempts"), problem.expected("1 or more"));
        }
        for word in self.retry_on.iter().flat_map(|words| words.split(',')).map(str::trim) {
            let status = word.parse::<u16>().is_ok_and(|code| (100..=599).contains(&code));
            if !status {
                check_one_of(Some(word), &RETRY_ON, &at.field("retryOn"), context);
            }
        }
    }
}
