//! The program as a process, as users run it: resources in files, clients and endpoints on the wire, commands typed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod clusters;
mod commands;
mod envoy;
mod gateway_tls;
mod peers;
mod routes;
mod support;
mod unix_listeners;
