//! What a connection brings along for the choice of an upstream.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use snapshot::{ClusterId, Discovery};

use crate::{connection::Connection, dns::ResolvedName, sys::Source, upstream::Upstream, view::View};

/// Where a connection comes from and was going.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'c> {
    /// The client.
    pub(crate) peer: SocketAddr,
    /// Its original destination, or the address of the proxy that it dialled.
    pub(crate) destination: SocketAddr,
    /// Whether it is the original destination.
    pub(crate) is_captured: bool,
    /// Its client, where the application is to see it.
    pub(crate) client: Option<Client<'c>>,
    /// What it asks for by name, for clusters that have such names resolved.
    pub(crate) named: Option<&'c ResolvedName>,
}

impl Origin<'_> {
    /// Where the client wanted to go, if it was on its way to somebody else than the proxy: whoever dialled the proxy
    /// itself would be sent back to it for ever.
    pub(crate) fn original_destination(&self) -> Option<SocketAddr> {
        self.is_captured.then_some(self.destination)
    }
}

/// Warns when a connection that dialled the proxy itself meets a cluster of original destinations, which has no endpoint
/// for it.
pub(crate) fn tell_if_unknown(connection: &Connection, view: &View, cluster: ClusterId) {
    let cluster = view.snapshot.cluster(cluster);
    if cluster.discovery != Discovery::OriginalDestination || connection.origin().is_captured {
        return;
    }
    let Some(unsaid) = connection.worker().log_limit.admit() else { return };
    tracing::warn!(
        cluster = cluster.name,
        destination_rule = cluster.destination_rule.as_deref(),
        downstream = %connection.peer,
        unsaid = (unsaid > 0).then_some(unsaid),
        "no endpoint: connections of this cluster go to where the client was going, and this client dialled the proxy \
         itself"
    );
}

/// A client that the application is to see.
#[derive(Clone, Copy)]
pub(crate) struct Client<'c> {
    /// Its address and port.
    pub(crate) source: Source,
    /// Where the application at loopback is kept with the client's connections to it, if the client's port can be used
    /// there.
    pub(crate) at_loopback: Option<&'c LoopbackUpstream>,
}

/// The application at loopback as one client's connection calls it. It ends with that connection: nobody else may use
/// its port.
pub(crate) type LoopbackUpstream = RefCell<Option<Rc<Upstream>>>;
