//! Throw-away pods in network namespaces, and the scenarios that need a real kernel.
//!
//! A scenario is a few lines: a [`Network`], some [`Pod`]s on it, an application, `postern-init` with flags,
//! `postern-agent` with a configuration directory, a request, and what the application saw. All of it is real:
//! the binaries run as processes, the rules are in the kernel of a fresh namespace, the bytes cross veth pairs.
//! Everything is removed on drop, on panic too; what a killed run left behind is removed by the next one.
//!
//! Scenarios need root. Without it they say so and pass, unless `REQUIRE_NETNS=1` is set: see [`needs_root!`].
#![forbid(unsafe_code)]

pub mod access_log;
pub mod agent;
pub mod app;
pub mod client;
mod http;
pub mod name_server;
pub mod namespace;
pub mod network;
pub mod pod;
pub mod process;
pub mod program;
pub mod root;
pub mod rule;
pub mod scenario;
pub mod service;

pub use access_log::AccessLogLine;
pub use agent::{Agent, AgentSetup};
pub use client::Reply;
pub use name_server::NameServer;
pub use network::Network;
pub use pod::{ISTIO_FLAGS, Pod};
pub use rule::{Counted, Family, Rule};
pub use scenario::{fires, holds_only_by};
pub use service::Service;
