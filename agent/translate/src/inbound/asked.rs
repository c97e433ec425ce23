//! The filter chains of an inbound port: what is served there, under what is asked of connections.

use resources::{Finding, MutualTlsMode};
use snapshot::{Application, FilterChain, FilterChainMatch, NetworkFilter, TlsContextId, Transport};

use crate::{
    credentials::Contexts,
    draft::{DraftBuilder, chain},
    mutual_tls::MutualTls,
    proxy::Proxy,
};

/// What is served on a port.
pub(super) enum Served {
    Http(NetworkFilter),
    Opaque(NetworkFilter),
    /// Found out from the first bytes.
    Either {
        http: NetworkFilter,
        opaque: NetworkFilter,
    },
}

/// What is asked of connections, and how TLS is terminated that proxies of the mesh speak.
pub(super) struct Asked<'a> {
    mutual_tls: &'a MutualTls<'a>,
    /// `None` when the workload has no identity, and nobody is asked for mutual TLS.
    tls: Option<TlsContextId>,
}

/// Conditions on the first bytes.
type Bytes = (Option<Transport>, Option<Application>);

const TLS: Option<Transport> = Some(Transport::Tls);
const CLEAR: Option<Transport> = Some(Transport::RawBuffer);
const ANY: Bytes = (None, None);

impl<'a> Asked<'a> {
    pub(super) fn new(
        mutual_tls: &'a MutualTls<'a>,
        proxy: &Proxy,
        contexts: &mut Contexts<'_>,
        (draft, findings): (&mut DraftBuilder, &mut Vec<Finding>),
    ) -> Self {
        let ports = mutual_tls.ports().map(|port| mutual_tls.mode(port));
        // Without an identity STRICT still shuts clear text out.
        let is_strict = ports.chain([mutual_tls.elsewhere()]).any(|mode| mode == MutualTlsMode::Strict);
        let mut tls = None;
        if proxy.identity.is_some() || is_strict {
            let (context, unusable) = contexts.of_inbound(draft);
            tls = Some(context);
            findings.extend(unusable.into_iter().map(|wrong| Finding {
                severity: wrong.severity(),
                rule: wrong.rule,
                place: None,
                resource: None,
                path: "mutual TLS of inbound connections".to_owned(),
                problem: wrong.problem,
            }));
        }
        Self { mutual_tls, tls }
    }

    /// The chain of a port on which clients outside the mesh speak TLS, and nobody anything else.
    pub(super) fn terminated(name: &str, tls: TlsContextId, served: Served) -> FilterChain {
        let (Served::Http(filter) | Served::Opaque(filter) | Served::Either { opaque: filter, .. }) = served;
        let matches = FilterChainMatch { transport: TLS, ..FilterChainMatch::default() };
        FilterChain { matches, tls: Some(tls), ..chain(name, filter) }
    }

    pub(super) fn mode(&self, port: u16) -> MutualTlsMode {
        self.mutual_tls.mode(port)
    }

    pub(super) fn elsewhere(&self) -> MutualTlsMode {
        self.mutual_tls.elsewhere()
    }

    /// The chains for a port, told apart by the protocols that proxies of the mesh offer. `names` are those of chains
    /// that serve HTTP and bytes.
    pub(super) fn chains(
        &self,
        (http_name, opaque_name): (&str, &str),
        mode: MutualTlsMode,
        served: &Served,
    ) -> Vec<FilterChain> {
        let mesh = (TLS, Some(Application::Mesh));
        let mesh_http = (TLS, Some(Application::MeshHttp));
        let of = |(name, filter): (&str, &NetworkFilter), (transport, application): Bytes, tls| {
            let matches = FilterChainMatch { transport, application, ..FilterChainMatch::default() };
            FilterChain { matches, tls, ..chain(name, filter.clone()) }
        };
        let clear = |named, bytes| of(named, bytes, None);
        let mutual = |named, bytes| of(named, bytes, self.tls);
        let is_permissive = mode == MutualTlsMode::Permissive && self.tls.is_some();
        match served {
            Served::Http(http) => {
                let http = (http_name, http);
                match mode {
                    MutualTlsMode::Strict => vec![mutual(http, (TLS, None))],
                    _ if is_permissive => vec![mutual(http, mesh), clear(http, (CLEAR, None))],
                    _ => vec![clear(http, ANY)],
                }
            }
            Served::Opaque(opaque) => {
                let opaque = (opaque_name, opaque);
                match mode {
                    MutualTlsMode::Strict => vec![mutual(opaque, (TLS, None))],
                    // TLS of others is passed on untouched.
                    _ if is_permissive => {
                        vec![mutual(opaque, mesh), clear(opaque, (TLS, None)), clear(opaque, ANY)]
                    }
                    _ => vec![clear(opaque, ANY)],
                }
            }
            Served::Either { http, opaque } => {
                let (http, opaque) = ((http_name, http), (opaque_name, opaque));
                let by_bytes = [clear(http, (None, Some(Application::Http))), clear(opaque, ANY)];
                let to_proxies = [mutual(http, mesh_http), mutual(opaque, mesh)];
                match mode {
                    MutualTlsMode::Strict => vec![mutual(http, mesh_http), mutual(opaque, (TLS, None))],
                    _ if is_permissive => {
                        let others = [clear(opaque, (TLS, None))];
                        to_proxies.into_iter().chain(others).chain(by_bytes).collect()
                    }
                    _ => by_bytes.into(),
                }
            }
        }
    }
}
