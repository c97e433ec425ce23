//! Ports for the programs under test.

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where this process looks next: its tests begin at a place that chance chooses and never get one port twice.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) % 20_000));

/// A port that nobody listens on. It is below those that the kernel gives to outgoing connections and to listeners on
/// port 0: no other test gets it by chance before the program under test listens.
pub(crate) fn free_port() -> u16 {
    (0..100)
        .map(|_| 10_000 + (NEXT.fetch_add(1, Ordering::Relaxed) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a hundred ports is free")
}
