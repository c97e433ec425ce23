//! Requests for a host that their client did not ask for as server name: browsers use one HTTP/2 connection for every
//! host that the certificate covers (RFC 9113 §9.1.1).

use crate::{
    ClientCertificates, ConnectionFacts, HostName, ListenerId, NetworkFilter, RequestHead, Route, Snapshot,
    TlsContextId, VirtualHost, match_route,
};

/// A host that is not known where its request came in, but by another server name of the same listener.
#[derive(Clone, Copy, Debug)]
pub enum Elsewhere<'s> {
    /// Under the same certificates and the same rules for clients: this is its route.
    SameRules(&'s VirtualHost, &'s Route),
    /// Under others, so that the client has to prove itself there.
    OtherRules,
}

impl Snapshot {
    /// Whether a request must not be served on a connection under `tls`: a client that asked for its host as server name
    /// would be asked for a certificate in another way. What a server name proves counts, whatever tables hold: that of
    /// `*.a.com` has the routes of `bank.a.com`, too.
    pub fn is_misdirected(
        &self,
        authority: &str,
        connection: &ConnectionFacts<'_>,
        (listener, tls): (ListenerId, Option<TlsContextId>),
    ) -> bool {
        let (true, Some(own)) = (self.tells_clients_apart(), tls) else { return false };
        let host = HostName::of_authority(authority);
        let facts = ConnectionFacts { server_name: Some(host.as_str()), ..*connection };
        let Some(other) = self.select_filter_chain(&facts, listener) else { return false };
        let (NetworkFilter::Http(_), Some(asking)) = (&other.filter, other.tls) else { return false };
        let asked = &self.tls_context(asking).clients;
        *asked != ClientCertificates::NotAsked && *asked != self.tls_context(own).clients
    }

    /// Looks for the host of a request among the server names that its client did not ask for on a connection served
    /// under `tls`. `None` where TLS is not terminated, nothing but bytes is relayed, or no route matches.
    pub fn elsewhere(
        &self,
        request: &impl RequestHead,
        connection: &ConnectionFacts<'_>,
        (listener, tls): (ListenerId, Option<TlsContextId>),
    ) -> Option<Elsewhere<'_>> {
        let host = HostName::of_authority(request.authority());
        let facts = ConnectionFacts { server_name: Some(host.as_str()), ..*connection };
        let other = self.select_filter_chain(&facts, listener)?;
        let NetworkFilter::Http(http) = &other.filter else { return None };
        let (host, route) = match_route(request, true, self.route_config(http.route_config)).ok()?;
        let same_rules = other.tls.is_some() && other.tls == tls;
        Some(if same_rules { Elsewhere::SameRules(host, route) } else { Elsewhere::OtherRules })
    }
}
