//! How far a certificate is from its end.

use std::fmt;

/// What the dates of a certificate mean at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validity {
    /// It is not good yet.
    NotYet,
    /// It is good for a while.
    Good,
    /// It is good, and renewing it is overdue: it ends within this time.
    Ending(Within),
    /// It was good.
    Expired,
}

/// A limit before the end of a certificate, in seconds; prints as `30 days` or `8 hours`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Within(i64);

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

impl Validity {
    /// By the seconds since 1970 of its beginning, of its end and of now.
    ///
    /// The limits are 30 days and 7 days; for those that live shorter a third and a tenth of their life, so that
    /// certificates of hours are not always said to end.
    pub fn at(not_before: i64, not_after: i64, now: i64) -> Self {
        let life = not_after.saturating_sub(not_before).max(0);
        let (soon, very_soon) = ((30 * DAY).min(life / 3), (7 * DAY).min(life / 10));
        match not_after.saturating_sub(now) {
            _ if now < not_before => Self::NotYet,
            left if left <= 0 => Self::Expired,
            left if left < very_soon => Self::Ending(Within(very_soon)),
            left if left < soon => Self::Ending(Within(soon)),
            _ => Self::Good,
        }
    }

    /// What is to be said of it, as the end of a sentence about the certificate.
    pub fn warning(self) -> Option<String> {
        match self {
            Self::Good => None,
            Self::NotYet => Some("is not good yet".to_owned()),
            Self::Ending(within) => Some(format!("expires in less than {within}")),
            Self::Expired => Some("has expired".to_owned()),
        }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            long if long >= 2 * DAY => write!(f, "{} days", long / DAY),
            short if short >= 2 * HOUR => write!(f, "{} hours", short / HOUR),
            short => write!(f, "{} minutes", short / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(life: i64, left: i64) -> Option<String> {
        Validity::at(0, life, life - left).warning()
    }

    #[test]
    fn long_ones_are_told_of_a_month_and_a_week_before() {
        let year = 365 * DAY;
        assert_eq!(told(year, 30 * DAY), None);
        assert_eq!(told(year, 30 * DAY - 1).unwrap(), "expires in less than 30 days");
        assert_eq!(told(year, 7 * DAY).unwrap(), "expires in less than 30 days");
        assert_eq!(told(year, 7 * DAY - 1).unwrap(), "expires in less than 7 days");
        assert_eq!(told(year, 0).unwrap(), "has expired");
        assert_eq!(told(year, year + 1).unwrap(), "is not good yet");
        // Renewed when a third is left, as cert-manager does it.
        assert_eq!(told(90 * DAY, 30 * DAY), None);
    }

    #[test]
    fn short_ones_are_told_of_when_a_third_and_a_tenth_is_left() {
        assert_eq!(told(DAY, 8 * HOUR), None);
        assert_eq!(told(DAY, 8 * HOUR - 1).unwrap(), "expires in less than 8 hours");
        assert_eq!(told(DAY, HOUR).unwrap(), "expires in less than 2 hours");
        assert_eq!(told(HOUR, 60).unwrap(), "expires in less than 6 minutes");
        assert_eq!(Validity::at(5, 5, 5), Validity::Expired);
        assert_eq!(Validity::at(i64::MIN, i64::MAX, 0), Validity::Good);
    }
}
