//! What interim answers to one request may hold.

use super::Broken;

use crate::bounds;

/// Counts the interim answers to a request.
pub(super) struct Interim {
    left: usize,
}

impl Default for Interim {
    fn default() -> Self {
        Self { left: bounds::INTERIM_BYTES }
    }
}

impl Interim {
    /// Counts one with fields of so many bytes.
    ///
    /// # Errors
    /// There were too many.
    pub(super) fn count(&mut self, fields: usize) -> Result<(), Broken> {
        self.left = self.left.checked_sub(bounds::INTERIM_EACH + fields).ok_or(Broken::Protocol)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_large_ones_and_many_empty_ones_are_too_many() {
        for (fields, fitting) in [(60 * 1024, 1), (0, 256)] {
            let mut interim = Interim::default();
            assert!((0..fitting).all(|_| interim.count(fields).is_ok()), "{fields}");
            assert!(interim.count(fields).is_err(), "{fields}");
        }
    }
}
