//! How long a request may take (`timeout`), gRPC's own deadline and what the application asks for included.

use std::time::Duration;

use super::{Forward, RequestOverrides};
use crate::RequestHead;

/// The longest time that a request may take, and who says so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeLimit {
    /// `None` is no limit.
    pub time: Option<Duration>,
    /// Who says so.
    pub of: TimeLimitOf,
}

/// Who limits the time of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeLimitOf {
    /// The route.
    Route,
    /// The client's deadline (`grpc-timeout`).
    Deadline,
    /// The application, for one call (`x-envoy-upstream-rq-timeout-ms`).
    Request,
}

impl Forward {
    /// The limit for a request: what the application asks for; else the shorter of the route's and, for gRPC, that of
    /// `grpc-timeout`.
    pub fn time_limit(
        &self,
        request: &impl RequestHead,
        overrides: Option<&RequestOverrides>,
        is_grpc: bool,
    ) -> TimeLimit {
        if let Some(limit) = overrides.and_then(|overrides| overrides.timeout) {
            return TimeLimit {
                time: Some(limit).filter(|limit| !limit.is_zero()),
                of: TimeLimitOf::Request,
            };
        }
        let deadline = if is_grpc { request.header("grpc-timeout").and_then(grpc_timeout) } else { None };
        let (time, of) = match (self.timeout, deadline) {
            (Some(timeout), Some(deadline)) if timeout <= deadline => (Some(timeout), TimeLimitOf::Route),
            (_, Some(deadline)) => (Some(deadline), TimeLimitOf::Deadline),
            (timeout, None) => (timeout, TimeLimitOf::Route),
        };
        TimeLimit { time, of }
    }
}

/// Up to eight digits and a unit (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_of_grpc_have_a_unit() {
        let read = |text: &str| grpc_timeout(text.as_bytes());
        assert_eq!(read("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for malformed in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }
}
