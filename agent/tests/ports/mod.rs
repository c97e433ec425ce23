//! Ports for the programs under test.

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
};

/// A port that nobody listens on. It is below those that the kernel gives to outgoing connections and to listeners on
/// port 0: no other test gets it by chance before the program under test listens.
pub(crate) fn free_port() -> u16 {
    (0..100)
        .map(|attempt: u32| 10_000 + (RandomState::new().hash_one(attempt) % 20_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of a hundred ports is free")
}
