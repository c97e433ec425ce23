//! The real binary against the real kernel, each test in network namespaces of its own.
//!
//! Without root the tests say `skipped: needs root` and pass; with `REQUIRE_NETNS=1` a skip is a failure.
#![expect(clippy::unwrap_used, reason = "a test whose world cannot be built should stop")]

mod cleanup;
mod failures;
mod harness;
mod install;
mod killed;
mod native;
mod packets;
mod roles;
mod scenarios;
mod steps;
mod tproxy;
mod validate;
mod watch;
