//! The connections to one port, and which of them gives way to a new one.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use tokio::task::AbortHandle;

use crate::bounds;

/// How far a connection is with its request.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU8);

/// Nothing has been asked, or not all of it. Those who only hold connections open give way first.
const LISTENING: u8 = 0;
/// The answer has begun, and the rest of it is made as it is read: then those who do not read.
const SENDING: u8 = 1;
/// All of it is made, and not all sent: the same.
const TAKEN: u8 = 2;
/// The answer is on its way: what somebody waits for, as the kubelet does for a probe, is not ended for others.
const ANSWERING: u8 = 3;

impl Progress {
    pub(super) fn asked(&self) {
        self.0.store(ANSWERING, Relaxed);
    }

    pub(super) fn answered(&self) {
        self.0.store(SENDING, Relaxed);
    }

    /// Nothing of the answer is left to be made.
    pub(super) fn taken(&self) {
        self.0.store(TAKEN, Relaxed);
    }

    /// What there was to be sent is sent. Whether that was all of an answer.
    pub(super) fn flushed(&self) -> bool {
        self.0.compare_exchange(TAKEN, LISTENING, Relaxed, Relaxed).is_ok()
    }
}

/// Connections being served, the oldest first; some may have ended.
#[derive(Default)]
pub(super) struct Running(Vec<Connection>);

struct Connection {
    task: AbortHandle,
    progress: Arc<Progress>,
    peer: IpAddr,
}

impl Running {
    /// Makes room for one more connection from `peer`, or says that there is none.
    pub(super) fn make_room(&mut self, peer: IpAddr) -> bool {
        self.0.retain(|connection| !connection.task.is_finished());
        let of_peer = self.0.iter().filter(|connection| connection.peer == peer).count();
        if of_peer >= bounds::INTERFACE_CONNECTIONS_OF_ONE && !peer.is_loopback() {
            return self.end_one(|connection| connection.peer == peer);
        }
        self.0.len() < bounds::INTERFACE_CONNECTIONS || self.end_one(|_| true)
    }

    pub(super) fn add(&mut self, task: AbortHandle, progress: Arc<Progress>, peer: IpAddr) {
        self.0.push(Connection { task, progress, peer });
    }

    /// Ends the oldest of those that give way first.
    fn end_one(&mut self, among: impl Fn(&Connection) -> bool) -> bool {
        let at = |stages: &[u8]| {
            self.0.iter().position(|one| among(one) && stages.contains(&one.progress.0.load(Relaxed)))
        };
        let Some(oldest) = at(&[LISTENING]).or_else(|| at(&[SENDING, TAKEN])) else { return false };
        self.0.remove(oldest).task.abort();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinHandle;

    use super::*;

    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn other(number: usize) -> IpAddr {
        [10, 1, 0, u8::try_from(number % 8).unwrap()].into()
    }

    /// A connection of `peer`; `None` when there is no room.
    fn open(running: &mut Running, peer: IpAddr) -> Option<(JoinHandle<()>, Arc<Progress>)> {
        running.make_room(peer).then(|| {
            let (task, progress) = (tokio::spawn(pending()), Arc::<Progress>::default());
            running.add(task.abort_handle(), Arc::clone(&progress), peer);
            (task, progress)
        })
    }

    #[tokio::test]
    async fn the_oldest_connection_gives_way_only_to_as_many_that_are_open() {
        let mut running = Running::default();
        let (oldest, _) = open(&mut running, NODE).unwrap();
        for _ in 0..2 * bounds::INTERFACE_CONNECTIONS {
            let (short, _) = open(&mut running, NODE).unwrap();
            short.abort();
            _ = short.await;
        }
        assert!(!oldest.is_finished(), "others came and went");
        let others: Vec<_> =
            (1..bounds::INTERFACE_CONNECTIONS).map(|n| open(&mut running, other(n)).unwrap()).collect();
        assert!(
            !oldest.is_finished() && others.len() == bounds::INTERFACE_CONNECTIONS - 1,
            "there was a place for each"
        );
        open(&mut running, other(0)).unwrap();
        assert!(oldest.await.unwrap_err().is_cancelled());
        assert_eq!(running.0.len(), bounds::INTERFACE_CONNECTIONS);
    }

    #[tokio::test]
    async fn whoever_waits_for_an_answer_is_not_pushed_out() {
        let mut running = Running::default();
        let (probe, progress) = open(&mut running, NODE).unwrap();
        progress.asked();
        let (slow, sending) = open(&mut running, NODE).unwrap();
        sending.answered();
        for n in 0..3 * bounds::INTERFACE_CONNECTIONS {
            open(&mut running, other(n)).unwrap();
        }
        assert!(!slow.is_finished(), "those who say nothing give way before it");
        running.0.iter().skip(2).for_each(|one| one.progress.asked());
        open(&mut running, other(0)).unwrap();
        assert!(slow.await.unwrap_err().is_cancelled());
        running.0.iter().for_each(|one| one.progress.asked());
        assert!(open(&mut running, other(0)).is_none(), "all are waited for");
        assert!(!probe.is_finished());
        progress.answered();
        assert!(!progress.flushed(), "there is more to come");
        progress.taken();
        assert!(progress.flushed());
        assert!(open(&mut running, other(0)).is_some());
    }

    #[tokio::test]
    async fn no_other_pod_takes_all_places() {
        let mut running = Running::default();
        for _ in 0..2 * bounds::INTERFACE_CONNECTIONS {
            open(&mut running, other(0)).unwrap();
        }
        assert_eq!(running.0.len(), bounds::INTERFACE_CONNECTIONS_OF_ONE);
        for _ in 0..2 * bounds::INTERFACE_CONNECTIONS_OF_ONE {
            open(&mut running, IpAddr::from([127, 0, 0, 1])).unwrap();
        }
        assert_eq!(
            running.0.len(),
            3 * bounds::INTERFACE_CONNECTIONS_OF_ONE,
            "processes of the pod are many"
        );
    }
}
