//! The connections to one port, and which of them gives way to a new one.

use std::{
    cmp::Reverse,
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
/// The answer is on its way: what somebody waits for, as the kubelet does for a probe, is ended last.
const ANSWERING: u8 = 3;

impl Progress {
    pub(super) fn asked(&self) {
        self.0.store(ANSWERING, Relaxed);
    }

    pub(super) fn answered(&self) {
        self.0.store(SENDING, Relaxed);
    }

    /// Whether a part of an answer may be sent, and not all of it.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.0.load(Relaxed), SENDING | TAKEN)
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
    /// Makes room for one more connection from `peer`.
    pub(super) fn make_room(&mut self, peer: IpAddr) {
        self.0.retain(|connection| !connection.task.is_finished());
        let is_one_of_many =
            self.connections_of(peer) >= bounds::INTERFACE_CONNECTIONS_OF_ONE && !peer.is_loopback();
        if is_one_of_many {
            self.end_one(|connection| connection.peer == peer);
        } else if self.0.len() >= bounds::INTERFACE_CONNECTIONS {
            self.end_one(|_| true);
        }
    }

    fn connections_of(&self, peer: IpAddr) -> usize {
        self.0.iter().filter(|connection| connection.peer == peer).count()
    }

    pub(super) fn add(&mut self, task: AbortHandle, progress: Arc<Progress>, peer: IpAddr) {
        self.0.push(Connection { task, progress, peer });
    }

    /// Ends the oldest of those that give way first. Who has asked gives way as well, if there is nobody else: slow
    /// questions, as to an application that does not answer, must not shut the port. They are then of whoever has most
    /// connections, who is not the kubelet with its probe.
    fn end_one(&mut self, among: impl Fn(&Connection) -> bool) {
        let known = || self.0.iter().enumerate().filter(|(_, one)| among(one));
        let order = |(index, one): &(usize, &Connection)| {
            let stage = one.progress.0.load(Relaxed);
            let connections = if stage == LISTENING { usize::MAX } else { self.connections_of(one.peer) };
            (connections, stage != ANSWERING, Reverse(*index))
        };
        let first = known().max_by_key(order).map(|(index, _)| index);
        if let Some(first) = first {
            self.0.remove(first).task.abort();
        }
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

    fn open(running: &mut Running, peer: IpAddr) -> (JoinHandle<()>, Arc<Progress>) {
        running.make_room(peer);
        let (task, progress) = (tokio::spawn(pending()), Arc::<Progress>::default());
        running.add(task.abort_handle(), Arc::clone(&progress), peer);
        (task, progress)
    }

    #[tokio::test]
    async fn the_oldest_connection_gives_way_only_to_as_many_that_are_open() {
        let mut running = Running::default();
        let (oldest, _) = open(&mut running, NODE);
        for _ in 0..2 * bounds::INTERFACE_CONNECTIONS {
            let (short, _) = open(&mut running, NODE);
            short.abort();
            _ = short.await;
        }
        assert!(!oldest.is_finished(), "others came and went");
        let others: Vec<_> =
            (1..bounds::INTERFACE_CONNECTIONS).map(|n| open(&mut running, other(n))).collect();
        assert!(
            !oldest.is_finished() && others.len() == bounds::INTERFACE_CONNECTIONS - 1,
            "there was a place for each"
        );
        open(&mut running, other(0));
        assert!(oldest.await.unwrap_err().is_cancelled());
        assert_eq!(running.0.len(), bounds::INTERFACE_CONNECTIONS);
    }

    #[tokio::test]
    async fn whoever_waits_for_an_answer_is_not_pushed_out_by_those_who_do_not() {
        let mut running = Running::default();
        let (probe, progress) = open(&mut running, NODE);
        progress.asked();
        let (slow, sending) = open(&mut running, NODE);
        sending.answered();
        for n in 0..3 * bounds::INTERFACE_CONNECTIONS {
            open(&mut running, other(n));
        }
        assert!(!slow.is_finished(), "those who say nothing give way before it");
        running.0.iter().for_each(|one| one.progress.asked());
        sending.answered();
        open(&mut running, NODE).1.asked();
        assert!(!slow.is_finished() && !probe.is_finished(), "others have more connections");
        assert!(!sending.flushed(), "there is more to come");
        sending.taken();
        assert!(sending.flushed());
        open(&mut running, other(0));
        assert!(slow.await.unwrap_err().is_cancelled(), "it waits for nothing any more");
        assert!(!probe.is_finished());
    }

    #[tokio::test]
    async fn slow_questions_do_not_shut_the_port() {
        let mut running = Running::default();
        let (probe, progress) = open(&mut running, NODE);
        progress.asked();
        for n in 0..3 * bounds::INTERFACE_CONNECTIONS {
            open(&mut running, other(n)).1.asked();
        }
        assert_eq!(running.0.len(), bounds::INTERFACE_CONNECTIONS);
        let (reading, progress) = open(&mut running, other(0));
        progress.answered();
        for _ in 0..bounds::INTERFACE_CONNECTIONS_OF_ONE {
            open(&mut running, other(0)).1.asked();
        }
        assert!(reading.await.unwrap_err().is_cancelled(), "of one address who does not read is first");
        let newest = running.0.last().unwrap().task.clone();
        open(&mut running, NODE);
        tokio::task::yield_now().await;
        assert!(!probe.is_finished() && !newest.is_finished(), "the oldest of another was ended");
    }

    #[tokio::test]
    async fn no_other_pod_takes_all_places() {
        let mut running = Running::default();
        for _ in 0..2 * bounds::INTERFACE_CONNECTIONS {
            open(&mut running, other(0));
        }
        assert_eq!(running.0.len(), bounds::INTERFACE_CONNECTIONS_OF_ONE);
        for _ in 0..2 * bounds::INTERFACE_CONNECTIONS_OF_ONE {
            open(&mut running, IpAddr::from([127, 0, 0, 1]));
        }
        assert_eq!(
            running.0.len(),
            3 * bounds::INTERFACE_CONNECTIONS_OF_ONE,
            "processes of the pod are many"
        );
    }
}
