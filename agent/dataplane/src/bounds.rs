//! What peers are held to, and what is kept for them, at the most.
//!
//! `docs/operations.md` tells these limits to users, and a test of the agent compares the two. What the operator may
//! choose is in [`Settings`](crate::Settings), of which the first of these are the defaults.

use std::time::Duration;

/// What the codec of HTTP/1 takes.
pub use ::http1::bounds as http1;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// Buffers, of each connection that has something under way.

/// For heads and small bodies.
pub const SMALL_BUFFER: usize = 16 * KIB;
/// For bodies and opaque streams that keep filling the small one: measured at half the CPU per byte of the small size.
pub const LARGE_BUFFER: usize = 64 * KIB;
/// For opaque streams in bulk: fewer, longer copies are cheaper per byte.
pub const BULK_BUFFER: usize = 256 * KIB;
/// What is sent of a body in HTTP/2 at a time, and again what may wait of it in the codec before more is asked for. The
/// codec counts for each request of a connection by itself, so that this decides what one that never reads makes us hold.
pub const FRAME: usize = 16 * KIB;

// Connections from clients.

/// How long a connection may have nothing to do (Envoy's `idle_timeout` of HTTP connections).
pub const KEEP_ALIVE: Duration = Duration::from_secs(3600);
/// How long nothing may move of what is under way.
pub const STANDSTILL: Duration = Duration::from_secs(3600);
/// For so long a peer may take nothing of what is held for it while memory is short.
pub const UNTAKEN: Duration = Duration::from_secs(5);
/// The same while requests are refused for want of memory.
pub const UNTAKEN_WHILE_REFUSED: Duration = Duration::from_secs(2);
/// From the first byte of a head to its last.
pub const HEAD_TIME: Duration = Duration::from_secs(60);
/// For what a TLS client wants, and again for the rest of its handshake.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(15);
/// Handshakes under way in one worker: half of one holds as much as a served connection.
pub const HANDSHAKES: usize = 1024;
/// Handshakes that compute between two looks at what is ready. An RSA signature takes about a millisecond.
pub const HANDSHAKES_IN_ONE_ROUND: usize = 4;
/// Complaints about peers that one worker may log at once.
pub const LOG_BURST: u32 = 10;
/// What a client may still send after the last word.
pub const LINGER_BYTES: usize = 256 * KIB;
/// How long all of that may take.
pub const LINGER_TIME: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted, per listening socket; the kernel lowers it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;
/// The longest line of a PROXY header of version 1, with its end.
pub const PROXY_LINE: usize = 107;
/// The longest PROXY header of version 2; what balancers add to the addresses is shorter by far.
pub const PROXY_HEADER: usize = 4 * KIB;

// Heads and bodies.

/// Bytes of heads that can be allowed: the largest buffer there is.
pub const LARGEST_HEAD: usize = BULK_BUFFER;
/// Fields of heads that can be allowed.
pub const MOST_FIELDS: usize = 10_000;
/// All interim answers to one request, each counting [`INTERIM_EACH`] beside its fields. A client that does not read
/// leaves them with us: HTTP/2 has no flow control for heads.
pub const INTERIM_BYTES: usize = 64 * KIB;
/// What holding a head costs, whatever it says.
pub const INTERIM_EACH: usize = 256;
/// A body that is kept for another try (Envoy's `per_connection_buffer_limit_bytes`).
pub const KEPT_BODY: usize = MIB;
/// What all requests of a worker may keep, with their copies for mirrors. Endpoints that take bodies and do not answer
/// would otherwise let clients have as much kept as they have requests.
pub const HELD_BODIES: usize = 64 * MIB;

// HTTP/2.

/// Concurrent requests of one connection (Envoy's default).
pub const STREAMS: u32 = 1024;
/// Requests of one connection beyond which none gets a larger buffer for its answer: that many of them are fast enough
/// together.
pub const CROWDED_STREAMS: usize = 64;
/// Bytes that a client may send ahead of the endpoint with one request.
pub const STREAM_WINDOW: u32 = 256 * 1024;
/// The same with all requests of its connection.
pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Heads of one connection's requests under way: a thousand of 4 KiB.
pub const HEADS_OF_CONNECTION: usize = 4 * MIB;
/// Requests that a client may take back before they were answered. When it has taken back as many, and more than half
/// of all it made, it is up to no good (CVE-2023-44487; Envoy's `premature_reset_total_stream_count`).
pub const TAKEN_BACK: u64 = 500;
/// Requests that share a connection to an endpoint. It keeps what one broken connection costs small.
pub const SHARED_BY: u32 = 100;
/// Bytes that an endpoint may send ahead of one client.
pub const ENDPOINT_WINDOW: u32 = 256 * 1024;
/// The same of all that share a connection: more than any network between a proxy and its endpoints has under way.
pub const ENDPOINT_WINDOWS: u32 = 2 * 1024 * 1024;
/// What each may have of it, however many they are.
pub const SMALLEST_ENDPOINT_WINDOW: u32 = FRAME as u32;

// Endpoints.

/// Endpoints tried for one opaque connection.
pub const TRIED_ENDPOINTS: usize = 3;
/// Idle connections kept per endpoint and worker.
pub const IDLE_CONNECTIONS: usize = 256;
/// Hosts per endpoint whose connections are kept apart; beyond them the one not asked for longest makes room.
pub const HOSTS: usize = 64;
/// Points of a ring (Envoy's `maximum_ring_size`).
pub const RING: u32 = 8_388_608;
/// Places of a table that a request may wait for: a few milliseconds.
pub const MADE_AT_ONCE: u32 = 70_000;
/// Copies of mirrored requests under way in one worker. With [`HELD_BODIES`] it bounds what slow mirrors can make us hold.
pub const COPIES: usize = 256;
/// How long a copy may take where its route has no shorter `timeout`.
pub const COPY_TIME: Duration = Duration::from_secs(60);
/// Original destinations remembered per cluster and worker: a peer that walks through addresses must not make us grow.
pub const ORIGINAL_DESTINATIONS: usize = 4096;
/// Former addresses remembered of a name; those before are closed as their requests end.
pub const FORMER_ADDRESSES: usize = 4;

// Memory kept for later use, of each worker but for the pipes.

/// Buffers of the two larger sizes in use at a time for bodies and opaque bytes, 64 and 32 MiB of them: more would be held
/// by connections that stall.
pub const LENT_BUFFERS: [usize; 2] = [1024, 128];
/// Spare buffers of the three sizes: 4 MiB of each, enough for the bursts of a busy worker.
pub const SPARE_BUFFERS: [usize; 3] = [256, 64, 16];
/// Spare workspaces of requests: of HTTP/1, and again of HTTP/2.
pub const SPARE_WORKSPACES: usize = 256;
/// Spare vectors to write into.
pub const SPARE_SCRATCH: usize = 256;
/// How large one may have grown to be kept.
pub const LARGEST_SCRATCH: usize = 64 * KIB;
/// Pipes of all workers together.
pub const PIPES: usize = 16;
/// What one pipe holds. The kernel gives less to a user who has many.
pub const PIPE: usize = MIB;

// Names.

/// Questions under way at once: of clusters, and again of requests.
pub const QUESTIONS_AT_ONCE: usize = 32;
/// Questions of requests that wait for their turn.
pub const WAITING_QUESTIONS: usize = 1024;
/// How long one of these may take.
pub const QUESTION_TIME: Duration = Duration::from_secs(5);
/// Names of requests that a worker remembers (Envoy's `max_hosts`).
pub const ASKED_NAMES: usize = 1024;
/// Those that nobody wants for so long are forgotten (Envoy's `host_ttl`).
pub const ASKED_NAMES_UNUSED: Duration = Duration::from_secs(300);
/// Answers are used so long at least, whatever their time to live, so that no server makes us ask all the time.
pub const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// And so long at most.
pub const LONGEST_TTL: Duration = Duration::from_secs(3600);
/// Istio's rate where an answer says nothing, and after failures.
pub const USUAL_TTL: Duration = Duration::from_secs(60);

// Logs and metrics.

/// Pieces of the access log that wait for the writer: about 4 MiB.
pub const LOG_PIECES: usize = 64;
/// Size from which a worker hands its piece over without waiting for the tick.
pub const LOG_PIECE: usize = 60 * KIB;
/// Series of metrics that one worker counts, of each kind.
pub const SERIES: usize = 20_000;
/// From so many on, those are forgotten that nobody needs.
pub const CROWDED_SERIES: usize = SERIES / 4 * 3;
/// For so long a series that is forgotten was the same when it was read, in all workers.
pub const UNUSED_SERIES: Duration = Duration::from_secs(3600);
/// Peers that one worker keeps apart; those beyond are nobody in particular. Identities come from certificates that an
/// authority of the mesh has signed, and may still be many.
pub const PEERS: usize = 10_000;
/// Peers that one identity may say to be, so that none can take the places of all others. Workloads of one service
/// account and their versions are fewer.
pub const INTRODUCTIONS: usize = 256;
