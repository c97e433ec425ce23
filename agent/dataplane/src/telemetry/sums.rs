//! Sums that one worker adds to while others read them.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{ConnectionMeasures, Histogram, RequestMeasures, RequestSizes};

/// A number that only one thread adds to, so that nothing comes between its reading and its writing: it costs that
/// thread no more than a plain one.
#[derive(Debug, Default)]
pub(super) struct Sum(AtomicU64);

impl Sum {
    pub(super) fn add(&self, number: u64) {
        self.0.store(self.get().wrapping_add(number), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The same with fractions, as the bits of an `f64`.
#[derive(Debug, Default)]
struct Total(AtomicU64);

impl Total {
    fn add(&self, value: f64) {
        self.0.store((self.get() + value).to_bits(), Relaxed);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

#[derive(Debug, Default)]
pub(super) struct HistogramSums {
    counts: [Sum; Histogram::BOUNDS.len() + 1],
    total: Total,
}

impl HistogramSums {
    pub(super) fn record(&self, value: f64) {
        // Most values are small, so the search begins there.
        let bucket = Histogram::BOUNDS.iter().position(|bound| value <= *bound);
        self.counts[bucket.unwrap_or(Histogram::BOUNDS.len())].add(1);
        self.total.add(value);
    }

    pub(super) fn read(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|bucket| self.counts[bucket].get()), sum: self.total.get() }
    }
}

/// [`RequestMeasures`] as they grow.
#[derive(Debug, Default)]
pub(super) struct RequestSums {
    durations: HistogramSums,
    request_bytes: HistogramSums,
    response_bytes: HistogramSums,
    request_messages: Sum,
    response_messages: Sum,
}

impl RequestSums {
    pub(super) fn record(&self, duration: Duration, sizes: RequestSizes) {
        self.durations.record(duration.as_secs_f64() * 1000.0);
        self.request_bytes.record(as_f64(sizes.received));
        self.response_bytes.record(as_f64(sizes.sent));
        self.request_messages.add(sizes.request_messages);
        self.response_messages.add(sizes.response_messages);
    }
}

/// [`ConnectionMeasures`] as they grow.
#[derive(Debug, Default)]
pub(crate) struct ConnectionSums {
    opened: Sum,
    closed: Sum,
    received: Sum,
    sent: Sum,
}

impl ConnectionSums {
    /// Counts a connection that has begun.
    pub(crate) fn open(&self) {
        self.opened.add(1);
    }

    /// Counts a connection that has ended.
    pub(crate) fn close(&self) {
        self.closed.add(1);
    }

    /// Counts bytes from a client, and to it.
    pub(crate) fn moved(&self, received: u64, sent: u64) {
        self.received.add(received);
        self.sent.add(sent);
    }
}

/// What may be read while it grows: each number by itself is one that it had.
pub(super) trait Measured: Default {
    type Measures;

    fn read(&self) -> Self::Measures;

    /// Grows whenever anything does.
    fn activity(&self) -> u64;
}

impl Measured for RequestSums {
    type Measures = RequestMeasures;

    fn read(&self) -> RequestMeasures {
        RequestMeasures {
            durations: self.durations.read(),
            request_bytes: self.request_bytes.read(),
            response_bytes: self.response_bytes.read(),
            messages: (self.request_messages.get(), self.response_messages.get()),
        }
    }

    fn activity(&self) -> u64 {
        self.durations.counts.iter().map(Sum::get).sum()
    }
}

impl Measured for ConnectionSums {
    type Measures = ConnectionMeasures;

    fn read(&self) -> ConnectionMeasures {
        let Self { opened, closed, received, sent } = self;
        ConnectionMeasures {
            opened: opened.get(),
            closed: closed.get(),
            received: received.get(),
            sent: sent.get(),
        }
    }

    fn activity(&self) -> u64 {
        let Self { opened, closed, received, sent } = self;
        [opened, closed, received, sent].into_iter().fold(0, |sum, one| sum.wrapping_add(one.get()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of bytes need no more than 53 bits of precision")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_on_a_bound_belong_to_it() {
        let histogram = HistogramSums::default();
        histogram.record(0.5);
        histogram.record(1.0);
        assert_eq!(histogram.read().counts[..3], [1, 1, 0]);
    }
}
