//! Opaque connections: one upstream for the whole connection, bytes relayed both ways.

use std::{rc::Rc, sync::Arc, time::Instant};

use snapshot::{Address, ClusterId, HashKey, LoadBalancer, TcpProxy};

use crate::{
    access_log::Entry,
    balance::{Choice, hash_address},
    bounds,
    buffer::PooledBuffer,
    connection::Connection,
    dns::{NotResolved, ResolvedName},
    failure::LocalReply,
    health::AttemptResult,
    log_limit,
    origin::{Origin, tell_if_unknown},
    relay::{Limits, Relay, RelayError, Transferred},
    telemetry::{BLACK_HOLE, ConnectionKey, ConnectionSums, Kept},
    transport::DownstreamStream,
    upstream::{ConnectError, Lease, OpaqueUpstream, OwnEnd, PostTunnel, UpstreamConnection},
    view::View,
    wrong_tls,
};

/// A connection to an endpoint, ready for the client's bytes. It borrows nothing from the snapshot: opaque connections
/// live long, and an old snapshot must not live as long as they do.
pub(crate) struct Dialled {
    upstream: OpaqueUpstream,
    lease: Lease,
    cluster: ClusterName,
    limits: Limits,
    /// Endpoints tried, this one included.
    attempts: u32,
}

impl Dialled {
    /// A connection that was made after the attempts that `failed` tells of.
    fn new(upstream: OpaqueUpstream, lease: Lease, failed: NotDialled) -> Self {
        lease.count_request();
        lease.observe(AttemptResult::Opened);
        let limits = lease.policy().relay_limits();
        let NotDialled { cluster, attempts, .. } = failed;
        Self { upstream, lease, cluster, limits, attempts: attempts + 1 }
    }
}

/// Name of a cluster for the access log and the metrics.
type ClusterName = Box<str>;

impl AsMut<OpaqueUpstream> for Dialled {
    fn as_mut(&mut self) -> &mut OpaqueUpstream {
        &mut self.upstream
    }
}

/// Why no endpoint was connected to.
pub(crate) struct NotDialled {
    reply: LocalReply<'static>,
    cluster: ClusterName,
    /// Endpoints tried, and the last of them.
    attempts: u32,
    upstream: Option<Address>,
    /// What the network or TLS said of it.
    transport_failure: Option<Box<str>>,
}

impl NotDialled {
    fn new(reply: LocalReply<'static>, cluster: ClusterName) -> Self {
        Self { reply, cluster, attempts: 0, upstream: None, transport_failure: None }
    }

    /// Takes in one more endpoint that cannot be connected to.
    fn note(&mut self, lease: &Lease, error: &ConnectError) {
        self.reply = LocalReply::connect_failed(error);
        self.attempts += 1;
        self.upstream = Some(lease.address.clone());
        self.transport_failure = error.transport_failure();
    }
}

/// Flags of a connection for which all attempts failed: Envoy's for a failed connection, and that no attempt is left.
const EXHAUSTED: &str = "UF,URX";

/// Connects to an endpoint of the chain's cluster; when that fails, to another one.
pub(crate) async fn dial(
    connection: &Connection,
    view: &View,
    proxy: &TcpProxy,
) -> Result<Dialled, NotDialled> {
    let target = proxy.clusters.pick(fastrand::u64(..));
    let cluster: ClusterName = target.name.as_str().into();
    let Some(id) = target.id else { return Err(NotDialled::new(LocalReply::NO_CLUSTER, cluster)) };
    let named = match named(connection, view, id).await {
        Ok(named) => named,
        Err(reply) => return Err(NotDialled::new(reply, cluster)),
    };
    let origin = Origin { named: named.as_deref(), ..connection.origin() };
    let mut failed = NotDialled::new(LocalReply::NO_HEALTHY_UPSTREAM, cluster);
    let mut tried = Vec::new();
    while tried.len() < bounds::TRIED_ENDPOINTS
        && let Some(lease) = view.pick_untried(id, origin, choice(connection, view, id), &tried)
    {
        match lease.connect_opaque().await {
            Ok(opened) => {
                wrong_tls::tell_if_doubled(connection, &lease, opened.end());
                return Ok(Dialled::new(opened, lease, failed));
            }
            // Others have no more room: the limit is the cluster's.
            Err(error @ ConnectError::Overflow) => {
                return Err(NotDialled { reply: LocalReply::connect_failed(&error), ..failed });
            }
            Err(error) => {
                tell_of_failure(connection, &lease, &error);
                failed.note(&lease, &error);
                tried.push(lease.address.clone());
            }
        }
    }
    if tried.is_empty() {
        tell_if_unknown(connection, view, id);
    }
    Err(failed)
}

/// Tells the operator of an endpoint that cannot be connected to, and of the mistakes that show by it.
fn tell_of_failure(connection: &Connection, lease: &Lease, error: &ConnectError) {
    let policy = lease.policy();
    tracing::debug!(upstream = %lease.address, cluster = &*policy.name, %error, "cannot connect");
    wrong_tls::tell_if_clear_text(connection, lease, error);
    if let Some(answer) = error.tunnel_refusal() {
        let far_end = policy.tunnel.as_ref().map_or("", |tunnel| &tunnel.far_end);
        let what = format!("the proxy at the endpoint opens no tunnel to {far_end}: {answer}");
        log_limit::warn(connection, lease, &what);
    }
}

/// The server name that the client asks for, where the cluster has such names resolved.
async fn named(
    connection: &Connection,
    view: &View,
    cluster: ClusterId,
) -> Result<Option<Rc<ResolvedName>>, LocalReply<'static>> {
    let names = &connection.worker().names;
    let discovery = &view.snapshot.cluster(cluster).discovery;
    loop {
        let asked = connection.server_name().unwrap_or_default();
        match names.wanted(discovery, asked, Instant::now()) {
            Ok(named) => return Ok(named),
            Err(NotResolved::Refused(reply)) => return Err(reply),
            // Boxed: connections that need no name should not hold room for it.
            Err(NotResolved::Unasked(name)) => Box::pin(names.resolve(&name)).await,
        }
    }
}

/// The only key that an opaque connection has is where it comes from.
fn choice(connection: &Connection, view: &View, cluster: ClusterId) -> Choice {
    let by_source = match &view.snapshot.cluster(cluster).load_balancer {
        LoadBalancer::ConsistentHash(policy) => policy.key == HashKey::SourceIp,
        LoadBalancer::LeastRequest(_) | LoadBalancer::RoundRobin(_) | LoadBalancer::Random => false,
    };
    Choice {
        draw: fastrand::u64(..),
        hash: by_source.then(|| connection.client_ip().map(hash_address)).flatten(),
    }
}

/// An opaque connection and the upstream it is relayed to.
pub(crate) struct Opaque {
    pub(crate) connection: Connection,
    pub(crate) stream: DownstreamStream,
    pub(crate) dialled: Dialled,
    /// What the client has sent already.
    pub(crate) first: Option<PooledBuffer>,
}

/// Relays an opaque connection to its end.
pub(crate) async fn serve(mut opaque: Box<Opaque>) {
    let Opaque { connection, stream, dialled, first } = &mut *opaque;
    let worker = connection.worker();
    let peer = connection.other_side(Some(dialled.lease.peer()));
    let key = ConnectionKey { cluster: &*dialled.cluster, direction: connection.direction, flags: "", peer };
    let sums = worker.recorder.connection(key);
    sums.iter().for_each(|sums| sums.open());
    let (limits, first, moving) = (dialled.limits, first.take(), counting(sums));
    let deadline = (connection.id, &*connection.deadline);
    // In boxes of their own: hardly any connection goes through a tunnel.
    let (transferred, result) = match &mut dialled.upstream {
        OpaqueUpstream::Connection(UpstreamConnection { stream: upstream, answer, .. }) => {
            match answer.take() {
                None => {
                    let mut relay = Relay::new(stream, upstream, first);
                    relay.run(worker, deadline, limits, moving).await
                }
                Some(answer) => {
                    let mut post_tunnel = PostTunnel::new(upstream, *answer);
                    let mut relay = Relay::new(stream, &mut post_tunnel, first);
                    Box::pin(relay.run(worker, deadline, limits, moving)).await
                }
            }
        }
        OpaqueUpstream::Stream(tunnel) => {
            let mut relay = Relay::new(stream, &mut tunnel.bytes, first);
            Box::pin(relay.run(worker, deadline, limits, moving)).await
        }
    };
    let flags = flags_of(&result);
    if let Err(error) = &result {
        tracing::debug!(downstream = %connection.peer, upstream = %dialled.lease.address, %error, "relay ended");
    }
    // How it ended is told of its end only: what it moved has been read already.
    worker.recorder.connection(ConnectionKey { flags, ..key }).iter().for_each(|sums| sums.close());
    let ended = Ended {
        flags,
        transferred,
        cluster: Some(&*dialled.cluster),
        attempts: dialled.attempts,
        upstream: Some(&dialled.lease.address),
        own_end: Some(&**dialled.upstream.end()),
        ..Ended::default()
    };
    record(connection, &ended);
}

/// The response flags for the end of a relay.
fn flags_of(result: &Result<(), RelayError>) -> &'static str {
    match result {
        // As in Envoy, time without a byte shows by the duration only, and a client that resets as one that closes.
        Ok(()) | Err(RelayError::Idle | RelayError::Downstream(_)) => "",
        Err(RelayError::Upstream(_)) => "UR",
        Err(RelayError::Expired) => "DT",
        Err(RelayError::Untaken) => "OM",
    }
}

/// Counts bytes as they move: who reads the metrics need not wait for the end of a connection.
fn counting(sums: Option<Arc<Kept<ConnectionSums>>>) -> impl FnMut(Transferred) {
    let mut counted = Transferred::default();
    move |now| {
        if let Some(sums) = &sums
            && now != counted
        {
            sums.moved(now.received - counted.received, now.sent - counted.sent);
            counted = now;
        }
    }
}

/// Logs a connection for which no endpoint could be connected to.
pub(crate) fn log_failed(connection: &Connection, failed: &NotDialled) {
    log_unserved(
        connection,
        &Ended {
            flags: if failed.reply.flags == "UF" { EXHAUSTED } else { failed.reply.flags },
            cluster: Some(&failed.cluster),
            attempts: failed.attempts,
            upstream: failed.upstream.as_ref(),
            transport_failure: failed.transport_failure.as_deref(),
            ..Ended::default()
        },
    );
}

/// Logs a connection that no filter chain takes.
pub(crate) fn log_refused(connection: &Connection) {
    log_unserved(connection, &Ended { flags: "NR", details: "filter_chain_not_found", ..Ended::default() });
}

/// Logs a connection to a destination that nobody may go to, as Istio has it: with a cluster that has no endpoint.
pub(crate) fn log_black_hole(connection: &Connection) {
    let flags = LocalReply::NO_HEALTHY_UPSTREAM.flags;
    log_unserved(connection, &Ended { flags, cluster: Some(BLACK_HOLE), ..Ended::default() });
}

/// Logs a connection whose TLS handshake came to nothing, as Envoy does where its listeners log, or that came without the
/// PROXY header it should begin with. Blanks in the reason would end the field.
pub(crate) fn log_unopened(connection: &Connection, reason: &str) {
    if connection.log().is_some() {
        record(connection, &Ended { termination: &reason.replace(' ', "_"), ..Ended::default() });
    }
}

/// Logs an HTTP/2 connection that was ended for what its client did: no request of it may be under way to tell.
pub(crate) fn log_sent_away(connection: &Connection, (flags, details): (&str, &str), reason: &str) {
    if connection.log().is_some() {
        let termination = &reason.replace(' ', "_");
        record(connection, &Ended { flags, details, termination, ..Ended::default() });
    }
}

/// How an opaque connection ended.
#[derive(Default)]
struct Ended<'e> {
    flags: &'e str,
    details: &'e str,
    termination: &'e str,
    transferred: Transferred,
    cluster: Option<&'e str>,
    /// Endpoints tried, and the last of them.
    attempts: u32,
    upstream: Option<&'e Address>,
    transport_failure: Option<&'e str>,
    own_end: Option<&'e OwnEnd>,
}

/// Logs a connection that never got to an endpoint, which is counted here at both ends.
fn log_unserved(connection: &Connection, ended: &Ended<'_>) {
    let cluster = ended.cluster.unwrap_or_default();
    let peer = connection.other_side(None);
    let key = ConnectionKey { cluster, direction: connection.direction, flags: ended.flags, peer };
    if let Some(sums) = connection.worker().recorder.connection(key) {
        sums.open();
        sums.close();
    }
    record(connection, ended);
}

fn record(connection: &Connection, ended: &Ended<'_>) {
    let Some(log) = connection.log() else { return };
    let view = connection.worker().view();
    let entry = Entry {
        start: connection.wall_time(connection.accepted),
        duration: connection.accepted.elapsed(),
        request: None,
        status: 0,
        flags: ended.flags,
        details: ended.details,
        termination: ended.termination,
        transport_failure: ended.transport_failure,
        received: ended.transferred.received,
        sent: ended.transferred.sent,
        request_ended: None,
        answer_began: None,
        grpc_status: None,
        attempts: ended.attempts,
        upstream_protocol: None,
        upstream: ended.upstream,
        cluster: ended.cluster,
        own_end: ended.own_end,
        connection: connection.id,
        chain: connection.logged_chain(log, &view),
        downstream_local: connection.destination,
        downstream_remote: connection.peer,
        downstream_direct_remote: connection.peer,
        downstream_unix: connection.unix_socket(),
        server_name: connection.server_name(),
        session: connection.session(),
        route: None,
    };
    if connection.is_logged(&entry) {
        log.record(&entry);
    }
}
