//! How requests share a connection.

use std::{cell::Cell, rc::Rc};

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

    /// Bytes for each of so many requests under way, by the next power of two, so that it rarely changes.
    fn window_among(self, streams: usize) -> u32 {
        let streams = u32::try_from(streams).unwrap_or(u32::MAX / 2).max(1).next_power_of_two();
        let share = bounds::ENDPOINT_WINDOWS / streams;
        share.clamp(bounds::SMALLEST_ENDPOINT_WINDOW.min(self.stream_window), self.stream_window)
    }

    /// Room for all requests at once: no request is ever kept from its answer by others whose clients do not read.
    pub(super) const fn connection_window(self) -> u32 {
        self.streams * self.stream_window
    }
}

/// What the endpoint of a connection is allowed to send ahead, by how many requests it carries.
pub(super) struct Windows {
    sharing: Sharing,
    streams: Rc<Cell<usize>>,
    /// Bytes for each request, as the endpoint was told last, and for all.
    of_stream: u32,
    of_connection: u32,
}

/// A connection whose windows can be changed.
pub(super) trait Windowed {
    /// Says how much may be sent ahead for each request; false while it cannot be said.
    fn set_stream_window(&mut self, bytes: u32) -> bool;

    /// Says how much may be sent ahead for all of them.
    fn set_connection_window(&mut self, bytes: u32);
}

impl Windows {
    /// Those that a connection begins with; it carries as many requests as `streams` says.
    pub(super) fn new(sharing: Sharing, streams: Rc<Cell<usize>>) -> Self {
        let (of_stream, of_connection) = (sharing.stream_window, sharing.connection_window());
        Self { sharing, streams, of_stream, of_connection }
    }

    /// Tells the endpoint what has become right. More is allowed again once it would be for twice as many requests.
    ///
    /// The windows of all requests fit that of the connection also where more share it than usual because there may be
    /// no other: those whose clients do not read keep no other from its answer.
    pub(super) fn adjust(&mut self, connection: &mut impl Windowed) {
        let streams = self.streams.get();
        let less = self.sharing.window_among(streams).min(self.of_stream);
        let wanted = less.max(self.sharing.window_among(2 * streams));
        if wanted != self.of_stream && connection.set_stream_window(wanted) {
            self.of_stream = wanted;
        }
        // With what those were allowed more that came when they were few.
        let more = 2 * bounds::ENDPOINT_WINDOWS;
        let all =
            u32::try_from(streams).unwrap_or(u32::MAX).saturating_mul(self.of_stream).saturating_add(more);
        if all > self.of_connection && all <= i32::MAX as u32 {
            connection.set_connection_window(all);
            self.of_connection = all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection was told last.
    struct Told(u32, u32);

    impl Windowed for Told {
        fn set_stream_window(&mut self, bytes: u32) -> bool {
            self.0 = bytes;
            true
        }

        fn set_connection_window(&mut self, bytes: u32) {
            self.1 = bytes;
        }
    }

    #[test]
    fn the_more_requests_the_less_is_sent_ahead_of_each() {
        let (streams, mut told) = (Rc::new(Cell::new(0)), Told(0, 0));
        let mut windows = Windows::new(Sharing::DEFAULT, Rc::clone(&streams));
        let mut among = |count| {
            streams.set(count);
            windows.adjust(&mut told);
            (windows.of_stream >> 10, told.1)
        };
        for (count, window) in
            [(1, 256), (8, 256), (9, 128), (100, 16), (33, 16), (32, 32), (9, 64), (4, 256)]
        {
            assert_eq!(among(count), (window, 0), "{count}");
        }
        // Those that crowd a connection still fit it.
        assert_eq!(among(1300), (16, 0));
        assert_eq!(among(2000), (16, 2000 * 16 * 1024 + 4 * 1024 * 1024));
    }

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
