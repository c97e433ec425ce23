//! One request or connection under way at an endpoint.

use std::rc::Rc;

use snapshot::Speaks;

use super::{ConnectError, Http2Stream, Upstream, UpstreamConnection};
use crate::{
    failure::LocalReply,
    proxy_protocol::ProxyHeader,
    shared::{Permit, Resource},
    telemetry::PeerId,
};

/// One request or connection under way at an endpoint.
pub(crate) struct Lease {
    upstream: Rc<Upstream>,
    /// The endpoint with its connections for the request's host, where they are kept apart.
    for_host: Option<Rc<Upstream>>,
    /// Its place among the requests of a cluster that counts them.
    request: Option<Permit>,
    /// What a new connection begins with; in a box, because every request moves its lease and hardly any has one.
    proxy_header: Option<Box<ProxyHeader>>,
}

impl Lease {
    pub(super) fn new(upstream: &Rc<Upstream>) -> Self {
        upstream.active.set(upstream.active.get() + 1);
        Self { upstream: Rc::clone(upstream), for_host: None, request: None, proxy_header: None }
    }

    /// Notes who the endpoint is, unless that is known.
    pub(crate) fn identify(&self, who: impl FnOnce(&Upstream) -> PeerId) {
        if self.upstream.peer.get().is_none() {
            self.upstream.peer.set(Some(who(&self.upstream)));
        }
    }

    /// Who the endpoint is, for the metrics.
    pub(crate) fn peer(&self) -> PeerId {
        self.upstream.peer.get().unwrap_or_default()
    }

    /// Opens a new connection, unless the cluster has as many as it may.
    pub(super) async fn connect(&self, speaks: Speaks) -> Result<UpstreamConnection, ConnectError> {
        self.connect_as(speaks, self.proxy_header()).await
    }

    /// Opens a new connection for HTTP/1; where the cluster has as many as it may, waits for one to end or to fall
    /// idle, which is then used again.
    pub(crate) async fn connect_or_wait(&self) -> Result<Box<UpstreamConnection>, ConnectError> {
        let _waiting = self.stats.waiting();
        self.connect_or_wait_as(self.proxy_header()).await
    }

    /// Opens a new connection in the place of one that has ended.
    pub(crate) async fn replace(&self, ended: &mut UpstreamConnection) -> Result<(), ConnectError> {
        let slot = ended.slot.take();
        *ended = self.open(&self.policy(), slot, (Speaks::Http1, self.proxy_header())).await?;
        Ok(())
    }

    /// Begins new connections with a PROXY header.
    #[must_use]
    pub(crate) fn announcing(mut self, proxy_header: Option<ProxyHeader>) -> Self {
        self.proxy_header = proxy_header.map(Box::new);
        self
    }

    fn proxy_header(&self) -> Option<ProxyHeader> {
        self.proxy_header.as_deref().copied()
    }

    /// Room for a request on an HTTP/2 connection to the endpoint.
    pub(crate) async fn http2_stream(&self) -> Result<Http2Stream, ConnectError> {
        let _waiting = self.stats.waiting();
        self.for_host.as_ref().unwrap_or(&self.upstream).http2_stream().await
    }

    /// Keeps to connections for the host of a request, where TLS tells it the endpoint.
    #[must_use]
    pub(crate) fn for_host(mut self, authority: &str) -> Self {
        self.for_host = self.upstream.for_host(authority);
        self
    }

    /// Counts it as a request of its cluster.
    ///
    /// # Errors
    /// The cluster has as many as it may.
    pub(crate) fn admit_request(mut self) -> Result<Self, LocalReply<'static>> {
        self.request =
            self.upstream.policy.borrow().admit(Resource::Requests).map_err(|_| LocalReply::OVERFLOW)?;
        Ok(self)
    }

    /// Does not count at the endpoint while the value is there: it will go on at another one, where it counts already.
    pub(crate) fn uncounted(&self) -> Uncounted {
        self.upstream.active.set(self.upstream.active.get() - 1);
        Uncounted(Rc::clone(&self.upstream))
    }

    /// Goes on at another endpoint of the cluster.
    pub(crate) fn move_to(&mut self, mut another: Self) {
        another.request = self.request.take();
        let host = self.for_host.as_ref().and_then(|upstream| upstream.host.as_deref());
        another.for_host = host.and_then(|host| another.upstream.for_host(host));
        *self = another;
    }
}

impl std::ops::Deref for Lease {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        self.for_host.as_ref().unwrap_or(&self.upstream)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.active.set(self.upstream.active.get() - 1);
    }
}

/// A lease that does not count for a while.
pub(crate) struct Uncounted(Rc<Upstream>);

impl Drop for Uncounted {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() + 1);
    }
}
