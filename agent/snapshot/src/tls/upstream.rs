//! TLS to endpoints.

use super::{Authority, Credential, NameMatch, TlsParameters};

/// How TLS is spoken to the endpoints of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamTls {
    /// Which endpoints it is spoken to.
    pub endpoints: UpstreamTlsUse,
    /// What is sent as server name.
    pub server_name: ServerNameSource,
    /// What the endpoint's certificate must be.
    pub check: ServerCheck,
    /// What the endpoint is shown; `None` shows nothing. One without a certificate fails every handshake.
    pub credential: Option<Credential>,
    /// Whether proxies of the mesh talk to each other: the protocols offered say so.
    pub of_mesh: bool,
    /// Versions and algorithms.
    pub parameters: TlsParameters,
}

impl UpstreamTls {
    /// Whether it is spoken to an endpoint.
    pub fn is_spoken_to(&self, speaks_mesh_tls: bool) -> bool {
        match self.endpoints {
            UpstreamTlsUse::All => true,
            UpstreamTlsUse::Ready => speaks_mesh_tls,
        }
    }

    /// The server name for a request for `host`, or for a connection that carries no request. An address is not sent
    /// (RFC 6066 §3), but certificates are checked against it.
    pub fn name_for<'n>(&'n self, host: Option<&'n str>) -> Option<&'n str> {
        match &self.server_name {
            ServerNameSource::Fixed(name) => Some(name),
            ServerNameSource::Authority => host,
        }
    }

    /// Protocols offered (ALPN), the preferred first. `istio-peer-exchange` is not among them: agreeing on it would oblige
    /// us to a preamble.
    pub fn protocols(&self, speaks: Speaks) -> &'static [&'static str] {
        match (self.of_mesh, speaks) {
            (false, Speaks::Http1 | Speaks::Opaque) => &[],
            (false, Speaks::Http2) => &["h2"],
            (true, Speaks::Http1) => &["istio-http/1.1", "istio", "http/1.1"],
            (true, Speaks::Http2) => &["istio-h2", "istio", "h2"],
            (true, Speaks::Opaque) => &["istio"],
        }
    }

    /// Whether connections made as `old` has it are such as would be made now, but perhaps for a certificate of ours that
    /// has been renewed: that is no reason to shake hands with every endpoint again.
    pub fn keeps_connections_of(&self, old: &Self) -> bool {
        let Self { endpoints, server_name, check, credential, of_mesh, parameters } = self;
        let name = |credential: &Option<Credential>| credential.as_ref().map(|own| own.name.clone());
        *endpoints == old.endpoints
            && *server_name == old.server_name
            && check.still_accepts(&old.check)
            && name(credential) == name(&old.credential)
            && *of_mesh == old.of_mesh
            && *parameters == old.parameters
    }
}

/// What is spoken over a connection to an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever the client speaks.
    Opaque,
}

/// Which endpoints of a cluster TLS is spoken to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UpstreamTlsUse {
    /// All of them.
    #[default]
    All,
    /// Those that say that they speak the mesh's TLS ([`crate::Endpoint::speaks_mesh_tls`]); the others get clear text.
    Ready,
}

/// What is sent as server name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ServerNameSource {
    /// The host that the request is for; nothing for connections that carry no request.
    #[default]
    Authority,
    /// This name.
    Fixed(String),
}

/// What the certificate of an endpoint must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServerCheck {
    /// Anything.
    Unverified,
    /// Issued by an authority that the system trusts, for one of the names, or for the server name sent when there are
    /// none.
    System(Vec<NameMatch>),
    /// The same by an authority of one's own.
    Authority(Authority, Vec<NameMatch>),
    /// No certificate will do, for this reason: no endpoint is spoken to.
    Nobody(&'static str),
}

impl ServerCheck {
    /// Whether whoever `before` accepted is accepted still: authorities may have joined, but neither left nor revoked
    /// anything.
    fn still_accepts(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Authority(now, names), Self::Authority(before, names_before)) => {
                let mut bundles = now.bundle.iter().zip(&before.bundle);
                now.name == before.name
                    && names == names_before
                    && bundles.any(|(now, before)| now.trusts_all_of(before))
            }
            (now, before) => now == before,
        }
    }
}
