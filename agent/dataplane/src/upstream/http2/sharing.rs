//! How requests share a connection.

use crate::bounds;

/// How many requests share a connection, and how many bytes its endpoint may send ahead of their clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sharing {
    /// Further requests get another connection, if there may be one.
    pub(super) streams: u32,
    /// Bytes for each request: what one can make us hold.
    pub(super) stream_window: u32,
}

impl Sharing {
    /// What DestinationRules that say nothing have. It keeps what one broken connection costs small.
    const DEFAULT: Self = Self { streams: bounds::SHARED_BY, stream_window: bounds::ENDPOINT_WINDOW };
    /// What HTTP/2 begins with (RFC 9113 §6.9.2).
    const SMALLEST_WINDOW: u32 = 65_535;

    /// For `maxConcurrentStreams`. More requests than usual share the window of as many as are usual, as far as that
    /// leaves each as much as any peer counts on.
    pub(super) fn of(asked: Option<u32>) -> Self {
        let usual = Self::DEFAULT;
        let streams = asked.unwrap_or(usual.streams).clamp(1, i32::MAX as u32 / Self::SMALLEST_WINDOW);
        let share = usual.connection_window() / streams;
        Self { streams, stream_window: share.clamp(Self::SMALLEST_WINDOW, usual.stream_window) }
    }

    /// Room for all requests at once: no request is ever kept from its answer by others whose clients do not read. Where
    /// more share a connection because there may be no other, they share the room, too.
    pub(super) const fn connection_window(self) -> u32 {
        self.streams * self.stream_window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_requests_of_a_connection_fit_its_window() {
        let of = |asked| Sharing::of(asked);
        assert_eq!(of(None), Sharing::DEFAULT);
        assert_eq!(of(Some(1)), Sharing { streams: 1, stream_window: 256 * 1024 });
        assert_eq!(of(Some(200)), Sharing { streams: 200, stream_window: 128 * 1024 });
        assert_eq!(of(Some(10_000)), Sharing { streams: 10_000, stream_window: 65_535 });
        assert!(of(Some(u32::MAX)).connection_window() <= i32::MAX as u32);
    }
}
