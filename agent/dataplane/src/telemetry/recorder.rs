//! What one worker counts by.

use std::{cell::RefCell, hash::Hash, rc::Rc, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{
    ConnectionKey, Ledger, PeerId, Peers, RequestKey, RequestSizes, RouteKey, RouteRequest,
    ledger::Kept,
    routes::RouteSums,
    sums::{ConnectionSums, RequestSums},
};

use crate::bounds;

/// A worker's own counts.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Who was met so far.
    pub(crate) peers: Rc<Peers>,
    requests: Table<RequestKey<Box<str>, PeerId>, RequestSums>,
    connections: Table<ConnectionKey<Box<str>, PeerId>, ConnectionSums>,
    routes: Table<RouteKey, RouteSums>,
    ledger: Arc<Ledger>,
}

type Table<K, S> = RefCell<HashMap<K, Arc<Kept<S>>, RandomState>>;

impl Recorder {
    /// One whose counts are read in `ledger`.
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// Counts a request that has ended.
    pub(crate) fn request(&self, key: RequestKey<&str, PeerId>, duration: Duration, sizes: RequestSizes) {
        let key = key.bounded();
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

    /// Counts a request that has ended at a route with counts of its own.
    pub(crate) fn route(&self, key: RouteKey<&str>, request: RouteRequest) {
        let mut routes = self.routes.borrow_mut();
        if let Some(sums) = routes.get(&key) {
            return sums.record(key.status, request);
        }
        let begin = || {
            let own = key.to_owned();
            (own.clone(), self.ledger.routes.begin(own))
        };
        if let Some(sums) = self.begin(&mut routes, begin) {
            sums.record(key.status, request);
        }
    }

    /// Where an opaque connection counts; none when there are too many different ones.
    pub(crate) fn connection(&self, key: ConnectionKey<&str, PeerId>) -> Option<Arc<Kept<ConnectionSums>>> {
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

    /// Lets go of what who reads has forgotten.
    pub(crate) fn sweep(&self) {
        let Ledger { requests, connections, routes, .. } = &*self.ledger;
        let peers = &self.peers;
        if requests.forgets() {
            let mut table = self.requests.borrow_mut();
            table.retain(|key, kept| !requests.is_over(kept, || key.with_peer(peers)));
        }
        if connections.forgets() {
            let mut table = self.connections.borrow_mut();
            table.retain(|key, kept| !connections.is_over(kept, || key.with_peer(peers)));
        }
        if routes.forgets() {
            let mut table = self.routes.borrow_mut();
            table.retain(|key, kept| !routes.is_over(kept, || key.clone()));
        }
    }

    /// Adds what `begin` makes, if there is room.
    fn begin<K: Eq + Hash, S>(
        &self,
        table: &mut HashMap<K, Arc<Kept<S>>, RandomState>,
        begin: impl FnOnce() -> (K, Arc<Kept<S>>),
    ) -> Option<Arc<Kept<S>>> {
        if table.len() >= bounds::SERIES {
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
    use std::time::Instant;

    use snapshot::Direction;

    use super::*;
    use crate::telemetry::{Peer, Telemetry};

    /// What recorders have counted together.
    fn sum<'r>(recorders: impl IntoIterator<Item = &'r Recorder>) -> Telemetry {
        sum_at(recorders, Instant::now())
    }

    fn sum_at<'r>(recorders: impl IntoIterator<Item = &'r Recorder>, now: Instant) -> Telemetry {
        let ledgers: Vec<_> = recorders.into_iter().map(|recorder| Arc::clone(&recorder.ledger)).collect();
        Ledger::read(&ledgers, now)
    }

    fn key(cluster: &str, status: u16) -> RequestKey<&str, PeerId> {
        of_peer(cluster, status, PeerId::default())
    }

    fn sizes(sent: u64) -> RequestSizes {
        RequestSizes { received: 0, sent, request_messages: 1, response_messages: 2 }
    }

    fn of_peer<P>(cluster: &str, status: u16, peer: P) -> RequestKey<&str, P> {
        let status = status.into();
        RequestKey { cluster, direction: Direction::Outbound, status, flags: "", grpc: None, peer }
    }

    #[test]
    fn equal_requests_are_counted_together_and_workers_add_up() {
        let recorders = [Recorder::default(), Recorder::default()];
        for recorder in &recorders {
            for _ in 0..3 {
                recorder.request(key("a", 200), Duration::from_micros(700), sizes(2000));
            }
            recorder.request(key("a", 503), Duration::from_secs(7200), sizes(0));
        }
        let sum = sum(&recorders);
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
        for index in 0..bounds::SERIES + 5 {
            recorder.request(key(&index.to_string(), 200), Duration::ZERO, sizes(0));
        }
        let sum = sum([&recorder]);
        assert_eq!((sum.requests.len(), sum.lost), (bounds::SERIES, 5));
    }

    #[test]
    fn statuses_that_nobody_knows_take_few_places() {
        let recorder = Recorder::default();
        for status in 100..1000 {
            for grpc in 0..=255 {
                let call = RequestKey { grpc: Some(Some(grpc)), ..key("a", status) };
                recorder.request(call, Duration::ZERO, sizes(0));
            }
        }
        let sum = sum([&recorder]);
        assert!(sum.requests.len() < bounds::SERIES / 8 && sum.lost == 0, "{}", sum.requests.len());
        let all: u64 = sum.requests.values().map(|sums| sums.durations.count()).sum();
        assert_eq!(all, 900 * 256);
    }

    /// A recorder whose table is full, of which `a` is the first.
    fn full() -> Recorder {
        let recorder = Recorder::default();
        recorder.request(key("a", 200), Duration::ZERO, sizes(0));
        for index in 1..bounds::SERIES {
            recorder.request(key(&index.to_string(), 200), Duration::ZERO, sizes(0));
        }
        recorder
    }

    const LATER: Duration = Duration::from_secs(4000);

    #[test]
    fn a_full_table_has_room_again_when_others_have_not_changed_for_long() {
        let recorder = full();
        let now = Instant::now();
        assert_eq!(sum_at([&recorder], now).requests.len(), bounds::SERIES);
        recorder.request(key("a", 200), Duration::ZERO, sizes(0));
        assert_eq!(sum_at([&recorder], now + LATER).requests.len(), bounds::SERIES, "told once more");
        recorder.sweep();
        recorder.request(key("new", 200), Duration::ZERO, sizes(0));
        let sum = sum_at([&recorder], now + LATER);
        let count = |cluster| sum.requests[&of_peer(cluster, 200, Peer::default())].durations.count();
        assert_eq!((sum.requests.len(), sum.lost, count("a"), count("new")), (2, 0, 2, 1));
    }

    #[test]
    fn what_another_worker_still_counts_is_not_forgotten() {
        let (recorder, other) = (full(), Recorder::default());
        let now = Instant::now();
        sum_at([&recorder, &other], now);
        other.request(key("a", 200), Duration::ZERO, sizes(0));
        sum_at([&recorder, &other], now + LATER);
        recorder.sweep();
        let sum = sum_at([&recorder, &other], now + LATER);
        assert_eq!(sum.requests.len(), 1);
        assert_eq!(sum.requests[&of_peer("a", 200, Peer::default())].durations.count(), 2);
    }

    #[test]
    fn what_was_forgotten_too_early_is_told_again_as_a_whole() {
        let recorder = full();
        let of_connection =
            ConnectionKey { cluster: "a", direction: Direction::Inbound, flags: "", peer: PeerId::default() };
        let open = recorder.connection(of_connection).unwrap();
        open.open();
        for index in 1..bounds::SERIES {
            recorder.connection(ConnectionKey { cluster: &index.to_string(), ..of_connection }).unwrap();
        }
        let now = Instant::now();
        sum_at([&recorder], now);
        assert_eq!(sum_at([&recorder], now + LATER).connections.len(), bounds::SERIES);
        recorder.request(key("a", 200), Duration::ZERO, sizes(0));
        recorder.sweep();
        let after = sum_at([&recorder], now + LATER);
        assert_eq!((after.requests.len(), after.connections.len()), (1, 0));
        assert_eq!(after.requests.values().next().unwrap().durations.count(), 2);
        // The connection has been open all the time.
        open.moved(3, 4);
        recorder.sweep();
        let told = *sum_at([&recorder], now + LATER).connections.values().next().unwrap();
        assert_eq!((told.opened, told.received, told.sent), (1, 3, 4));
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
