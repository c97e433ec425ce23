//! What VirtualServices promise, as clients and servers see it: resources in files, the program as a process, bytes on
//! the wire.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod actions;
mod budgets;
mod connections;
mod delegates;
mod destinations;
mod faults;
mod headers;
mod matching;
mod mirrors;
mod origins;
#[path = "../ports/mod.rs"]
mod ports;
mod retries;
mod upgrades;
mod wire;
mod world;
