//! What one worker counts by.

use std::{cell::RefCell, hash::Hash, rc::Rc, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    ConnectionKey, Ledger, PeerId, Peers, RequestKey, RequestSizes,
    sums::{ConnectionSums, RequestSums},
};

/// Keys that one worker keeps of a kind; what comes beyond them is only counted as lost.
const MAX_KEYS: usize = 20_000;

/// A worker's own counts.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Who was met so far.
    pub(crate) peers: Rc<Peers>,
    requests: Table<RequestKey<Box<str>, PeerId>, RequestSums>,
    connections: Table<ConnectionKey<Box<str>, PeerId>, ConnectionSums>,
    ledger: Arc<Ledger>,
}

type Table<K, S> = RefCell<HashMap<K, Arc<S>, RandomState>>;

impl Recorder {
    /// One whose counts are read in `ledger`.
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// Counts a request that has ended.
    pub(crate) fn request(&self, key: RequestKey<&str, PeerId>, duration: Duration, sizes: RequestSizes) {
        let mut requests = self.requests.borrow_mut();
        if let Some(sums) = requests.get(&key) {
            return sums.record(duration, sizes);
        }
        let begin = || {
            let own = key.to_owned();
            let sums = self.ledger.requests.begin(own.with_peer(&self.peers));
            (own, sums)
        };
        if let Some(sums) = self.begin(&mut requests, begin) {
            sums.record(duration, sizes);
        }
    }

    /// Where an opaque connection counts; none when there are too many different ones.
    pub(crate) fn connection(&self, key: ConnectionKey<&str, PeerId>) -> Option<Arc<ConnectionSums>> {
        let mut connections = self.connections.borrow_mut();
        if let Some(sums) = connections.get(&key) {
            return Some(Arc::clone(sums));
        }
        let begin = || {
            let own = key.to_owned();
            let sums = self.ledger.connections.begin(own.with_peer(&self.peers));
            (own, sums)
        };
        self.begin(&mut connections, begin)
    }

    /// Adds what `begin` makes, if there is room.
    fn begin<K: Eq + Hash, S>(
        &self,
        table: &mut HashMap<K, Arc<S>, RandomState>,
        begin: impl FnOnce() -> (K, Arc<S>),
    ) -> Option<Arc<S>> {
        if table.len() >= MAX_KEYS {
            self.ledger.lost.add(1);
            return None;
        }
        let (key, sums) = begin();
        table.insert(key, Arc::clone(&sums));
        Some(sums)
    }
}

#[cfg(test)]
mod tests {
    use snapshot::Direction;

    use super::*;
    use crate::telemetry::{Peer, Telemetry};

    /// What recorders have counted together.
    fn sum<'r>(recorders: impl IntoIterator<Item = &'r Recorder>) -> Telemetry {
        let mut sum = Telemetry::default();
        recorders.into_iter().for_each(|recorder| recorder.ledger.add_to(&mut sum));
        sum
    }

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
        let sum = sum([&recorder, &recorder]);
        assert_eq!(sum.requests.len(), 2);
        let nobody = Peer::default;
        let good = &sum.requests[&of_peer("a", 200, nobody())];
        assert_eq!((good.durations.count(), good.durations.counts[1]), (6, 6));
        assert!((good.durations.sum - 4.2).abs() < 1e-9 && good.response_bytes.counts[10] == 6);
        assert_eq!(good.messages, (6, 12));
        assert_eq!(sum.requests[&of_peer("a", 503, nobody())].durations.counts[19], 2);
    }

    #[test]
    fn what_was_read_goes_on_and_is_read_again() {
        let recorder = Recorder::default();
        for round in 1..=3 {
            for cluster in ["a", "b", "c"].iter().take(round) {
                recorder.request(key(cluster, 200), Duration::ZERO, sizes(0));
            }
            let sum = sum([&recorder]);
            assert_eq!(sum.requests.len(), round);
            assert_eq!(sum.requests[&of_peer("a", 200, Peer::default())].durations.count(), round as u64);
        }
    }

    #[test]
    fn requests_of_different_peers_are_counted_apart_in_all_workers() {
        let peer = |name: &str| Peer::of_principal(name.into(), None);
        let recorders = ["ab", "ba"].map(|met| {
            let recorder = Recorder::default();
            for name in met.chars() {
                let id = recorder.peers.id(peer(&name.to_string()));
                recorder.request(of_peer("c", 200, id), Duration::ZERO, sizes(0));
            }
            recorder
        });
        let sum = sum(&recorders);
        let count = |name| sum.requests[&of_peer("c", 200, peer(name))].durations.count();
        assert_eq!((sum.requests.len(), count("a"), count("b")), (2, 2, 2));
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let recorder = Recorder::default();
        for index in 0..MAX_KEYS + 5 {
            recorder.request(key(&index.to_string(), 200), Duration::ZERO, sizes(0));
        }
        let sum = sum([&recorder]);
        assert_eq!((sum.requests.len(), sum.lost), (MAX_KEYS, 5));
    }

    #[test]
    fn a_connection_counts_while_it_lasts() {
        let recorder = Recorder::default();
        let peer = PeerId::default();
        let key = ConnectionKey { cluster: "c", direction: Direction::Inbound, flags: "", peer };
        let sums = recorder.connection(key).unwrap();
        sums.open();
        sums.moved(7, 9);
        let told = *sum([&recorder]).connections.values().next().unwrap();
        assert_eq!((told.opened, told.closed, told.received, told.sent), (1, 0, 7, 9));
        recorder.connection(ConnectionKey { flags: "UF", ..key }).unwrap().close();
        assert_eq!(sum([&recorder]).connections.len(), 2);
    }
}
