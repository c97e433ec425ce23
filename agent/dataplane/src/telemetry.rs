//! What was served, by destination and outcome: the numbers behind Istio's standard metrics.
//!
//! Each worker counts for itself ([`Recorder`]), in numbers that whoever wants to know reads while the worker goes on
//! ([`Ledger`]) and adds up. Keys come from the configuration, from certificates and from small sets, and their number is
//! bounded all the same.

mod code;
mod ledger;
mod peers;
mod recorder;
mod routes;
mod sums;

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use snapshot::Direction;

pub use {
    code::ResponseCode,
    peers::Peer,
    routes::{RouteKey, RouteMeasures},
};
pub(crate) use {
    ledger::{Kept, Ledger},
    peers::{PeerId, Peers},
    recorder::Recorder,
    routes::{CountedRoute, RouteRequest},
    sums::ConnectionSums,
};

/// What Istio calls the cluster of destinations that nobody may go to (outbound policy REGISTRY_ONLY).
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

/// The route of requests for hosts that nobody may ask, which has no cluster.
pub(crate) const BLOCKED: &str = "block_all";

/// What all workers have served so far.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// HTTP requests.
    pub requests: HashMap<RequestKey, RequestMeasures, RandomState>,
    /// Opaque connections.
    pub connections: HashMap<ConnectionKey, ConnectionMeasures, RandomState>,
    /// Requests to routes that have counts of their own.
    pub routes: HashMap<RouteKey, RouteMeasures, RandomState>,
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
    pub status: ResponseCode,
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
    /// The same with nothing in it that endpoints choose as they like.
    fn bounded(self) -> Self {
        Self { grpc: self.grpc.map(|status| status.map(code::grpc_code)), ..self }
    }

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
