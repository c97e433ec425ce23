//! Parts of all requests.

/// A part of all requests, in millionths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share(u32);

impl Share {
    /// Every request.
    pub const ALL: Self = Self(1_000_000);

    /// A percentage, 0–100, with a resolution of 0.0001.
    pub fn of_percent(percent: f64) -> Self {
        let millionths = (percent.clamp(0.0, 100.0) * 10_000.0).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=1,000,000")]
        Self(millionths as u32)
    }

    /// The percentage.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Whether a uniformly random number falls within the share.
    pub fn takes(self, draw: u64) -> bool {
        draw % 1_000_000 < u64::from(self.0)
    }
}
