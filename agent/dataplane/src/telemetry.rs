//! What was served, by destination and outcome: the numbers behind Istio's standard metrics.
//!
//! Each worker counts for itself; whoever wants to know asks all of them and adds up. Keys come from the configuration,
//! from certificates and from small sets, and their number is bounded all the same.

mod peers;

use std::{
    cell::{Cell, RefCell},
    hash::Hash,
    rc::Rc,
    time::Duration,
};

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use snapshot::Direction;

pub use peers::Peer;
pub(crate) use peers::{PeerId, Peers};

/// Keys that one worker keeps of a kind; what comes beyond them is only counted as lost.
const MAX_KEYS: usize = 20_000;

/// What all workers have served so far.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// HTTP requests.
    pub requests: HashMap<RequestKey, RequestMeasures, RandomState>,
    /// Opaque connections.
    pub connections: HashMap<ConnectionKey, ConnectionMeasures, RandomState>,
    /// Requests and connections not recorded because there were too many different ones.
    pub lost: u64,
}

/// Requests that are counted together. `S` is text, owned or borrowed for a look-up; `P` the other side, which workers
/// count by number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RequestKey<S = Box<str>, P = Peer> {
    /// The cluster's name; empty when none was chosen.
    pub cluster: S,
    /// Which side of the workload served it.
    pub direction: Direction,
    /// Status of the answer; 0 when there was none.
    pub status: u16,
    /// Envoy's response flags; empty when there is nothing to say.
    pub flags: S,
    /// `Some` for gRPC: the status of the call, or `None` when it is not known.
    pub grpc: Option<Option<u8>>,
    /// Who called, for inbound requests; else who was called.
    pub peer: P,
}

/// Opaque connections that are counted together.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionKey<S = Box<str>, P = Peer> {
    /// The cluster's name; empty when none was chosen.
    pub cluster: S,
    /// Which side of the workload served it.
    pub direction: Direction,
    /// Envoy's response flags; empty when there is nothing to say.
    pub flags: S,
    /// Who called, for inbound connections; else who was called.
    pub peer: P,
}

impl<P: Eq> Equivalent<RequestKey<Box<str>, P>> for RequestKey<&str, P> {
    fn equivalent(&self, key: &RequestKey<Box<str>, P>) -> bool {
        self.status == key.status
            && self.peer == key.peer
            && self.direction == key.direction
            && self.grpc == key.grpc
            && *self.cluster == *key.cluster
            && *self.flags == *key.flags
    }
}

impl<P: Eq> Equivalent<ConnectionKey<Box<str>, P>> for ConnectionKey<&str, P> {
    fn equivalent(&self, key: &ConnectionKey<Box<str>, P>) -> bool {
        self.direction == key.direction
            && self.peer == key.peer
            && *self.cluster == *key.cluster
            && *self.flags == *key.flags
    }
}

impl RequestKey<&str, PeerId> {
    fn to_owned(self) -> RequestKey<Box<str>, PeerId> {
        let Self { cluster, direction, status, flags, grpc, peer } = self;
        RequestKey { cluster: cluster.into(), direction, status, flags: flags.into(), grpc, peer }
    }
}

impl RequestKey<Box<str>, PeerId> {
    fn with_peer(&self, peers: &Peers) -> RequestKey {
        let Self { cluster, direction, status, flags, grpc, peer } = self.clone();
        RequestKey { cluster, direction, status, flags, grpc, peer: peers.get(peer) }
    }
}

impl ConnectionKey<&str, PeerId> {
    fn to_owned(self) -> ConnectionKey<Box<str>, PeerId> {
        let Self { cluster, direction, flags, peer } = self;
        ConnectionKey { cluster: cluster.into(), direction, flags: flags.into(), peer }
    }
}

impl ConnectionKey<Box<str>, PeerId> {
    fn with_peer(&self, peers: &Peers) -> ConnectionKey {
        let Self { cluster, direction, flags, peer } = self.clone();
        ConnectionKey { cluster, direction, flags, peer: peers.get(peer) }
    }
}

/// Sums over requests.
#[derive(Clone, Debug, Default)]
pub struct RequestMeasures {
    /// From the request's head to the end of the answer, in milliseconds.
    pub durations: Histogram,
    /// Bytes of request bodies.
    pub request_bytes: Histogram,
    /// Bytes of answer bodies.
    pub response_bytes: Histogram,
    /// Messages of gRPC calls, of requests and of answers.
    pub messages: (u64, u64),
}

impl RequestMeasures {
    /// Adds the sums of others.
    pub fn add(&mut self, other: &Self) {
        self.durations.add(&other.durations);
        self.request_bytes.add(&other.request_bytes);
        self.response_bytes.add(&other.response_bytes);
        self.messages.0 += other.messages.0;
        self.messages.1 += other.messages.1;
    }
}

/// How much went through for a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestSizes {
    /// Bytes of its body, and of the answer's.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Messages of a gRPC call.
    pub(crate) request_messages: u64,
    pub(crate) response_messages: u64,
}

/// Sums over opaque connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionMeasures {
    /// Connections begun.
    pub opened: u64,
    /// Connections ended.
    pub closed: u64,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
}

impl ConnectionMeasures {
    /// Adds the sums of others.
    pub fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.closed += other.closed;
        self.received += other.received;
        self.sent += other.sent;
    }
}

/// Values counted by size.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Values up to each of [`Self::BOUNDS`] and above the one before; the last counts those above all.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// Sum of the values.
    pub sum: f64,
}

impl Histogram {
    /// The bounds of Istio's histograms.
    pub const BOUNDS: [f64; 19] = [
        0.5,
        1.0,
        5.0,
        10.0,
        25.0,
        50.0,
        100.0,
        250.0,
        500.0,
        1000.0,
        2500.0,
        5000.0,
        10_000.0,
        30_000.0,
        60_000.0,
        300_000.0,
        600_000.0,
        1_800_000.0,
        3_600_000.0,
    ];

    fn record(&mut self, value: f64) {
        // Most values are small, so the search begins there.
        let bucket = Self::BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(Self::BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds the values of another.
    pub fn add(&mut self, other: &Self) {
        for (own, others) in self.counts.iter_mut().zip(other.counts) {
            *own += others;
        }
        self.sum += other.sum;
    }
}

impl Telemetry {
    /// Adds what another worker has served.
    pub(crate) fn add(&mut self, other: Self) {
        for (key, measures) in other.requests {
            self.requests.entry(key).or_default().add(&measures);
        }
        for (key, measures) in other.connections {
            self.connections.entry(key).or_default().add(&measures);
        }
        self.lost += other.lost;
    }
}

/// A worker's own counts.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Who was met so far.
    pub(crate) peers: Rc<Peers>,
    requests: RefCell<HashMap<RequestKey<Box<str>, PeerId>, RequestMeasures, RandomState>>,
    connections: RefCell<HashMap<ConnectionKey<Box<str>, PeerId>, ConnectionMeasures, RandomState>>,
    lost: Cell<u64>,
}

impl Recorder {
    /// Counts a request that has ended.
    pub(crate) fn request(&self, key: RequestKey<&str, PeerId>, duration: Duration, sizes: RequestSizes) {
        let mut requests = self.requests.borrow_mut();
        let has_room = requests.len() < MAX_KEYS;
        let measures = match requests.get_mut(&key) {
            Some(measures) => measures,
            None if has_room => requests.entry(key.to_owned()).or_default(),
            None => return self.lose(),
        };
        measures.durations.record(duration.as_secs_f64() * 1000.0);
        measures.request_bytes.record(as_f64(sizes.received));
        measures.response_bytes.record(as_f64(sizes.sent));
        measures.messages.0 += sizes.request_messages;
        measures.messages.1 += sizes.response_messages;
    }

    /// Counts something about opaque connections.
    pub(crate) fn connection(
        &self,
        key: ConnectionKey<&str, PeerId>,
        change: impl FnOnce(&mut ConnectionMeasures),
    ) {
        let mut connections = self.connections.borrow_mut();
        let has_room = connections.len() < MAX_KEYS;
        match connections.get_mut(&key) {
            Some(measures) => change(measures),
            None if has_room => {
                change(connections.entry(key.to_owned()).or_default());
            }
            None => self.lose(),
        }
    }

    /// Everything counted so far.
    pub(crate) fn so_far(&self) -> Telemetry {
        let (requests, connections) = (self.requests.borrow(), self.connections.borrow());
        let requests = requests.iter().map(|(key, sums)| (key.with_peer(&self.peers), sums.clone()));
        let connections = connections.iter().map(|(key, sums)| (key.with_peer(&self.peers), *sums));
        Telemetry { requests: requests.collect(), connections: connections.collect(), lost: self.lost.get() }
    }

    fn lose(&self) {
        self.lost.set(self.lost.get() + 1);
    }
}

#[expect(clippy::cast_precision_loss, reason = "sums of bytes need no more than 53 bits of precision")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cluster: &str, status: u16) -> RequestKey<&str, PeerId> {
        of_peer(cluster, status, PeerId::default())
    }

    fn sizes(sent: u64) -> RequestSizes {
        RequestSizes { received: 0, sent, request_messages: 1, response_messages: 2 }
    }

    fn of_peer<P>(cluster: &str, status: u16, peer: P) -> RequestKey<&str, P> {
        RequestKey { cluster, direction: Direction::Outbound, status, flags: "", grpc: None, peer }
    }

    #[test]
    fn equal_requests_are_counted_together_and_workers_add_up() {
        let recorder = Recorder::default();
        for _ in 0..3 {
            recorder.request(key("a", 200), Duration::from_micros(700), sizes(2000));
        }
        recorder.request(key("a", 503), Duration::from_secs(7200), sizes(0));
        let mut sum = recorder.so_far();
        sum.add(recorder.so_far());
        assert_eq!(sum.requests.len(), 2);
        let nobody = Peer::default;
        let good = &sum.requests[&of_peer("a", 200, nobody())];
        assert_eq!((good.durations.count(), good.durations.counts[1]), (6, 6));
        assert!((good.durations.sum - 4.2).abs() < 1e-9 && good.response_bytes.counts[10] == 6);
        assert_eq!(good.messages, (6, 12));
        assert_eq!(sum.requests[&of_peer("a", 503, nobody())].durations.counts[19], 2);
    }

    #[test]
    fn requests_of_different_peers_are_counted_apart_in_all_workers() {
        let peer = |name: &str| Peer::of_principal(name.into(), None);
        let sum = ["ab", "ba"].map(|met| {
            let recorder = Recorder::default();
            for name in met.chars() {
                let id = recorder.peers.id(peer(&name.to_string()));
                recorder.request(of_peer("c", 200, id), Duration::ZERO, sizes(0));
            }
            recorder.so_far()
        });
        let [mut sum, other] = sum;
        sum.add(other);
        let count = |name| sum.requests[&of_peer("c", 200, peer(name))].durations.count();
        assert_eq!((sum.requests.len(), count("a"), count("b")), (2, 2, 2));
    }

    #[test]
    fn values_on_a_bound_belong_to_it() {
        let mut histogram = Histogram::default();
        histogram.record(0.5);
        histogram.record(1.0);
        assert_eq!(histogram.counts[..3], [1, 1, 0]);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let recorder = Recorder::default();
        for index in 0..MAX_KEYS + 5 {
            recorder.request(key(&index.to_string(), 200), Duration::ZERO, sizes(0));
        }
        assert_eq!((recorder.so_far().requests.len(), recorder.so_far().lost), (MAX_KEYS, 5));
    }

    #[test]
    fn connections_are_counted_at_both_ends() {
        let recorder = Recorder::default();
        let peer = PeerId::default();
        let key = |flags| ConnectionKey { cluster: "c", direction: Direction::Inbound, flags, peer };
        recorder.connection(key(""), |measures| measures.opened += 1);
        recorder.connection(key("UF"), |measures| measures.closed += 1);
        assert_eq!(recorder.so_far().connections.len(), 2);
    }
}
