//! How long a request may take (`timeout`), gRPC's own deadline included.

use std::time::Duration;

use snapshot::{Forward, RequestHead};

/// The limit for a request, and whether it is the client's own: the shorter of the route's and, for gRPC, that of
/// `grpc-timeout`.
pub(super) fn of(forward: &Forward, request: &impl RequestHead, grpc: bool) -> (Option<Duration>, bool) {
    let deadline = if grpc { request.header("grpc-timeout").and_then(grpc_timeout) } else { None };
    match (forward.timeout, deadline) {
        (Some(timeout), Some(deadline)) if timeout <= deadline => (Some(timeout), false),
        (_, Some(deadline)) => (Some(deadline), true),
        (timeout, None) => (timeout, false),
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
