//! Values as Go reads them, whose programs these settings were written for.

use std::time::Duration;

use crate::invalid::Invalid;

/// Reads a boolean as Go's `strconv.ParseBool` does.
///
/// # Errors
/// The text is none of its words.
pub fn switch(text: &str) -> Result<bool, Invalid> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Invalid::new("boolean", text, "`true` or `false`")),
    }
}

/// Reads a duration as Go's `time.ParseDuration` does, but for signs and zero, which no setting here can mean.
///
/// # Errors
/// The text is no such duration.
pub fn duration(text: &str) -> Result<Duration, Invalid> {
    let wrong =
        || Invalid::new("duration", text, "a time above zero with its unit, for example 500ms or 1m30s");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let (unit, after) = unit(&rest[digits..]).ok_or_else(wrong)?;
        seconds += number * unit;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

/// The unit at the start of `text`, in seconds, and what follows it.
fn unit(text: &str) -> Option<(f64, &str)> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    UNITS.iter().find_map(|(name, seconds)| Some((*seconds, text.strip_prefix(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5h").unwrap(), Duration::from_secs(5400));
        for bad in ["", "5", "s", "-5s", "0s", "5 s", "5sec", "1e400s", "1..5s", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn booleans_are_gos_words() {
        assert!(["1", "t", "T", "true", "TRUE", "True"].iter().all(|word| switch(word).unwrap()));
        assert!(["0", "f", "F", "false", "FALSE", "False"].iter().all(|word| !switch(word).unwrap()));
        assert!(["", "yes", "tRue", "2"].iter().all(|word| switch(word).is_err()));
    }
}
