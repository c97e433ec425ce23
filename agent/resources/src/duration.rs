//! Durations as Istio writes them: `1h2m3.5s`, `250ms`.

use std::time::Duration;

/// Reads a duration of whole milliseconds; zero is allowed and means what the field says.
///
/// # Errors
///
/// A clause telling what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Duration, &'static str> {
    let nanos = nanoseconds(text).ok_or("is not a duration")?;
    if nanos % 1_000_000 != 0 {
        return Err("is not a whole number of milliseconds");
    }
    u64::try_from(nanos / 1_000_000).map(Duration::from_millis).map_err(|_| "is too long")
}

fn nanoseconds(text: &str) -> Option<u128> {
    let mut rest = text;
    let mut total = 0u128;
    if rest == "0" {
        return Some(0);
    }
    while !rest.is_empty() || text.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.checked_add(scaled(number, unit_nanos(unit)?)?)?;
        rest = after;
    }
    Some(total)
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    })
}

/// `number` units, with a decimal fraction computed exactly.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > 15 || fraction.len() > 15 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let places = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(digits(whole)? * unit + digits(fraction)? * unit / places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        assert_eq!(parse("1h2m3.5s"), Ok(Duration::from_millis(3_723_500)));
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse(".5s"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1000us"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "1d", "-1s", "1 s", "1s2", "1..5s", "99999999999999999999s", "5s ", "ß"] {
            assert_eq!(parse(text), Err("is not a duration"), "{text}");
        }
        assert_eq!(parse("500us"), Err("is not a whole number of milliseconds"));
    }
}
