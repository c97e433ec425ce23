//! Time for those who need it formatted or on the wall.

use std::time::{Instant, SystemTime};

/// Formatted and wall-clock time, read once per tick.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) date: [u8; DATE_LEN],
    pub(super) wall: SystemTime,
    pub(super) monotonic: Instant,
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
}
