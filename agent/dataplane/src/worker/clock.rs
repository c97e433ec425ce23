//! Time for those who need it formatted or on the wall.

use std::time::{Instant, SystemTime};

/// Formatted and wall-clock time, read once per tick.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) date: [u8; DATE_LEN],
    wall: SystemTime,
    monotonic: Instant,
}

/// Length of an IMF-fixdate (RFC 9110 §5.6.7).
pub(super) const DATE_LEN: usize = 29;

impl Clock {
    pub(super) fn now() -> Self {
        let wall = SystemTime::now();
        let mut date = [0; DATE_LEN];
        let text = httpdate::fmt_http_date(wall);
        date.copy_from_slice(text.as_bytes().get(..DATE_LEN).unwrap_or(&[b'0'; DATE_LEN]));
        Self { date, wall, monotonic: Instant::now() }
    }

    /// Wall-clock time at a moment that was read from the monotonic clock, before the tick or since.
    pub(super) fn wall_time(&self, moment: Instant) -> SystemTime {
        match self.monotonic.checked_duration_since(moment) {
            Some(ago) => self.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            None => self.wall + moment.saturating_duration_since(self.monotonic),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_before_the_tick_are_as_exact_as_those_since() {
        let clock = Clock::now();
        for seconds in [0, 1, 3] {
            let away = Duration::from_secs(seconds);
            assert_eq!(clock.wall_time(clock.monotonic + away), clock.wall + away);
            if let Some(before) = clock.monotonic.checked_sub(away) {
                assert_eq!(clock.wall_time(before), clock.wall - away);
            }
        }
    }
}
