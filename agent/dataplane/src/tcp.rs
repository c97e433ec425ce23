//! Opaque connections: one upstream for the whole connection, bytes relayed both ways.

use std::time::Instant;

use snapshot::{ClusterTarget, TcpProxy};
use tokio::net::TcpStream;

use crate::{
    access_log::Entry,
    buffer::PooledBuffer,
    connection::Connection,
    failure::LocalReply,
    relay::{RelayError, Transferred, relay},
    upstream::{Lease, UpstreamConnection},
    view::View,
};

/// A connection to an endpoint, ready for the client's bytes.
pub(crate) struct Dialled<'v> {
    connection: UpstreamConnection,
    lease: Lease,
    cluster: &'v ClusterTarget,
}

impl AsRef<UpstreamConnection> for Dialled<'_> {
    fn as_ref(&self) -> &UpstreamConnection {
        &self.connection
    }
}

/// Endpoints tried before giving up on a connection.
const ATTEMPTS: usize = 3;

/// Connects to an endpoint of the chain's cluster; when that fails, to another one.
pub(crate) async fn dial<'v>(
    connection: &Connection,
    view: &'v View,
    proxy: &'v TcpProxy,
) -> Result<Dialled<'v>, (&'v ClusterTarget, LocalReply<'static>)> {
    let cluster = proxy.clusters.pick(fastrand::u64(..));
    let Some(id) = cluster.id else { return Err((cluster, LocalReply::NO_CLUSTER)) };
    let mut failure = LocalReply::NO_HEALTHY_UPSTREAM;
    let mut tried = Vec::new();
    while tried.len() < ATTEMPTS
        && let Some(lease) = view.pick_untried(id, connection.destination, fastrand::u64(..), &tried)
    {
        match lease.connect().await {
            Ok(connection) => return Ok(Dialled { connection, lease, cluster }),
            Err(error) => {
                tracing::debug!(upstream = %lease.address, cluster = cluster.name, %error, "cannot connect");
                failure = LocalReply::connect_failed(&error);
                tried.push(lease.address);
            }
        }
    }
    Err((cluster, failure))
}

/// Relays an opaque connection to its end.
///
/// `first` is what the client has sent already; `early` the upstream if it was dialled during inspection.
pub(crate) async fn serve(
    connection: &Connection,
    mut stream: TcpStream,
    view: &View,
    proxy: &TcpProxy,
    first: Option<PooledBuffer>,
    early: Option<Dialled<'_>>,
) {
    let start = Instant::now();
    let dialled = match early {
        Some(early) => Ok(early),
        None => dial(connection, view, proxy).await,
    };
    match dialled {
        Ok(dialled) => relay_to(connection, &mut stream, dialled, first, start).await,
        Err((cluster, failure)) => {
            log(connection, start, Some(cluster), None, (Transferred::default(), failure.flags));
        }
    }
}

async fn relay_to(
    connection: &Connection,
    stream: &mut TcpStream,
    mut dialled: Dialled<'_>,
    first: Option<PooledBuffer>,
    start: Instant,
) {
    let worker = connection.worker();
    let surroundings = (&worker.buffers, &*connection.deadline, worker.settings.idle_timeout);
    let (transferred, result) = relay(stream, &mut dialled.connection.stream, first, surroundings).await;
    let flags = match &result {
        Ok(()) => "",
        Err(RelayError::Downstream(_)) => "DC",
        Err(RelayError::Upstream(_)) => "UC",
        Err(RelayError::Idle) => "SI",
    };
    if let Err(error) = &result {
        tracing::debug!(downstream = %connection.peer, upstream = %dialled.lease.address, %error, "relay ended");
    }
    log(connection, start, Some(dialled.cluster), Some(&dialled), (transferred, flags));
}

/// Logs a connection that no filter chain takes.
pub(crate) fn log_refused(connection: &Connection) {
    log(connection, Instant::now(), None, None, (Transferred::default(), "NR"));
}

fn log(
    connection: &Connection,
    start: Instant,
    cluster: Option<&ClusterTarget>,
    dialled: Option<&Dialled<'_>>,
    (transferred, flags): (Transferred, &str),
) {
    let Some(log) = &connection.worker().log else { return };
    log.record(&Entry {
        start: connection.wall_time(start),
        duration: start.elapsed(),
        request: None,
        status: 0,
        flags,
        details: if cluster.is_none() { "filter_chain_not_found" } else { "" },
        received: transferred.received,
        sent: transferred.sent,
        service_time: None,
        upstream: dialled.map(|dialled| dialled.lease.address),
        cluster: cluster.map(|cluster| cluster.name.as_str()),
        upstream_local: dialled.and_then(|dialled| dialled.connection.local),
        downstream_local: connection.destination,
        downstream_remote: connection.peer,
        route: None,
    });
}
