//! What the tests share: the program as a process, clients and endpoints that speak raw bytes, and resources in YAML.

mod agent;
pub(crate) mod authority;
mod client;
mod endpoint;
pub(crate) mod http2;
mod message;
mod ports;
mod programs;
mod resources;

use std::{
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    agent::{Agent, Setup},
    client::{Client, send},
    endpoint::{Endpoint, pod},
    message::{Message, answer, ok},
    ports::free_port,
    programs::{agent, has, openssl, printed, skip, text},
    resources::{gateway, service, service_at, virtual_service},
};

/// How long anything is waited for that must come: longer than any machine needs that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
