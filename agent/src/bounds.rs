//! What the agent's own interfaces, its logs and the process as a whole are held to; what peers of the data plane are
//! held to is in [`dataplane::bounds`].
//!
//! `docs/operations.md` tells all of these to users; a test compares it with them.

use std::time::Duration;

#[cfg(test)]
mod tests;

// The whole process: shares of its memory, in percent.

/// From here on what peers take nothing of is given up.
pub(crate) const UNTAKEN_GIVEN_UP_FROM: u64 = 80;
/// And below it no more.
pub(crate) const AT_EASE_BELOW: u64 = 75;
/// From here on new requests are refused.
pub(crate) const REQUESTS_REFUSED_FROM: u64 = 90;
/// From here on new connections are refused as well.
pub(crate) const CONNECTIONS_REFUSED_FROM: u64 = 95;
/// Below it all is well again.
pub(crate) const SERVED_AGAIN_BELOW: u64 = 85;
/// What the bodies that all workers hold may take of it.
pub(crate) const HELD_BODIES_SHARE: u64 = 25;
/// Open files that are left for everything but connections of clients and those made for them.
pub(crate) const OTHER_FILES: u64 = 200;
/// Connections from clients that a worker takes however few files may be open.
pub(crate) const FEWEST_CONNECTIONS: usize = 16;

// Interfaces.

/// Connections to one port at a time.
pub(crate) const INTERFACE_CONNECTIONS: usize = 128;
/// How long somebody may take to read an answer, before it is cut off: nobody else could read what it holds.
pub(crate) const INTERFACE_READING: Duration = Duration::from_secs(30);
/// What a connection may read and write ahead.
pub(crate) const INTERFACE_BUFFER: usize = 32 << 10;
/// Who may be sent metrics at a time, each of whom holds the numbers that are not written yet, and again other long texts.
pub(crate) const METRICS_READERS: usize = 2;
/// How long one of them may take nothing while others wait.
pub(crate) const METRICS_READING: Duration = Duration::from_secs(1);
/// Bytes of metrics that are written ahead of their reader.
pub(crate) const METRICS_PIECE: usize = 32 << 10;
/// Texts of the application's metrics that are being sent at a time: so many who ask at once get one.
pub(crate) const METRICS_TEXTS: usize = 2;
/// Bytes of a request's body; a question to `/explain` is the largest.
pub(crate) const INTERFACE_BODY: usize = 256 << 10;
/// Of these, connections from one address outside of the pod.
pub(crate) const INTERFACE_CONNECTIONS_OF_ONE: usize = 32;
/// How long the head of a request may take, from the end of the answer before.
pub(crate) const INTERFACE_HEAD: Duration = Duration::from_secs(5);
/// How long a connection may last to 15000, 15020, 15021 and 15090. Who asks from outside asks once and goes; hooks of
/// the pod's life take as long as they take.
pub(crate) const INTERFACE_TIMES: [Duration; 4] =
    [Duration::from_secs(600), Duration::from_secs(600), Duration::from_secs(10), Duration::from_secs(60)];
/// Bytes of what an application answers a probe.
pub(crate) const PROBE_ANSWER: usize = 10 << 10;
/// Bytes of an application's own metrics.
pub(crate) const APPLICATION_METRICS: usize = 32 << 20;

// The workload's questions about names.

/// Questions under way at name servers; one more is answered with SERVFAIL.
pub(crate) const DNS_QUESTIONS: usize = 1024;
/// How long one may take at one server.
pub(crate) const DNS_PATIENCE: Duration = Duration::from_secs(2);
/// Name servers asked, as the resolver of libc does.
pub(crate) const DNS_SERVERS: usize = 3;
/// Connections served at a time; one more is closed.
pub(crate) const DNS_CONNECTIONS: usize = 128;
/// How long a connection may say nothing.
pub(crate) const DNS_IDLE: Duration = Duration::from_secs(10);
/// Bytes of an answer in one datagram, however much the client would take: larger ones are cut into pieces on their way.
pub(crate) const DNS_DATAGRAM: u16 = 1232;

// Logs.

/// Lines that wait for the writer; more are lost, and counted.
pub(crate) const LOG_LINES: usize = 4096;
