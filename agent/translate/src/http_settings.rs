//! How HTTP connections are treated, by the side of the proxy that they come to.

use std::{sync::Arc, time::Duration};

use resources::{ConnectionSettings, Profile, Underscores};
use snapshot::{
    ClientCertDetails, ClientLimits, Direction, HttpSettings, HttpSettingsId, PathNormalization,
    ProxyHeaders, ServerHeader,
};

use crate::proxy::MeshOptions;

/// Settings in the making: each once, the default first.
#[derive(Debug)]
pub(crate) struct SettingsTable {
    of_chains: HttpSettings,
    /// Those of gateways.
    of_gateways: HttpSettings,
    list: Vec<Arc<HttpSettings>>,
}

impl Default for SettingsTable {
    fn default() -> Self {
        Self::new(&MeshOptions::default())
    }
}

impl SettingsTable {
    pub(crate) fn new(mesh: &MeshOptions) -> Self {
        let of_chains = of(mesh);
        let limits = client_limits(&mesh.connection_settings, Direction::Gateway);
        let of_gateways = HttpSettings { limits, ..of_chains.clone() };
        Self { of_chains, of_gateways, list: vec![Arc::default()] }
    }

    /// The settings of a chain of a listener of this side.
    pub(crate) fn id(&mut self, direction: Direction) -> HttpSettingsId {
        let settings = match direction {
            Direction::Gateway => &self.of_gateways,
            Direction::Inbound | Direction::Outbound => &self.of_chains,
        };
        let known = self.list.iter().position(|known| **known == *settings);
        let at = known.unwrap_or_else(|| {
            self.list.push(Arc::new(settings.clone()));
            self.list.len() - 1
        });
        HttpSettingsId(u8::try_from(at).unwrap_or_default())
    }

    pub(crate) fn finish(self) -> Vec<Arc<HttpSettings>> {
        self.list
    }
}

fn of(mesh: &MeshOptions) -> HttpSettings {
    let (written, default) = (&mesh.proxy_headers, ProxyHeaders::default());
    let headers = ProxyHeaders {
        server: match &written.server {
            None | Some(resources::ServerHeader::Proxy) => ServerHeader::Proxy,
            Some(resources::ServerHeader::Named(name)) => ServerHeader::Named(name.clone()),
            Some(resources::ServerHeader::Endpoint) => ServerHeader::Endpoint,
        },
        request_id: written.request_id.unwrap_or(default.request_id),
        attempt_count: written.attempt_count.unwrap_or(default.attempt_count),
        debug: written.envoy_debug_headers.unwrap_or(default.debug),
        forwarded_host: written.x_forwarded_host.unwrap_or(default.forwarded_host),
        forwarded_port: written.x_forwarded_port.unwrap_or(default.forwarded_port),
    };
    let client_cert_details = written.client_cert_details.map(details);
    let limits = client_limits(&mesh.connection_settings, Direction::Outbound);
    HttpSettings { headers, client_cert_details, limits }
}

/// What is written, over what the profile brings: `EDGE` is for gateways only, as in Istio.
fn client_limits(written: &ConnectionSettings, direction: Direction) -> ClientLimits {
    let default = if is_edge(written, direction) { EDGE } else { ClientLimits::default() };
    let forever = |limit: Duration| if limit.is_zero() { Duration::MAX } else { limit };
    let underscores = written.underscores.map(|action| action == Underscores::RejectRequest);
    ClientLimits {
        idle_timeout: written.idle_timeout.map(forever).or(default.idle_timeout),
        head_timeout: written.head_timeout.map(forever).or(default.head_timeout),
        streams: written.streams.or(default.streams),
        stream_window: written.stream_window.or(default.stream_window),
        connection_window: written.connection_window.or(default.connection_window),
        refuses_underscores: underscores.unwrap_or(default.refuses_underscores),
    }
}

/// What Envoy recommends where strangers come in, as Istio has it.
const EDGE: ClientLimits = ClientLimits {
    idle_timeout: Some(Duration::from_secs(3600)),
    head_timeout: Some(Duration::from_secs(60)),
    streams: Some(100),
    stream_window: Some(64 * 1024),
    connection_window: Some(1024 * 1024),
    refuses_underscores: true,
};

fn is_edge(written: &ConnectionSettings, direction: Direction) -> bool {
    direction == Direction::Gateway && written.profile == Some(Profile::Edge)
}

/// The normal form of paths that come to listeners of this side: slashes are merged, or not, where it is said.
pub(crate) fn path_normalization(
    mesh: PathNormalization,
    written: &ConnectionSettings,
    direction: Direction,
) -> PathNormalization {
    let merges = written.merge_slashes.or(is_edge(written, direction).then_some(true));
    match (mesh, merges) {
        (PathNormalization::Base, Some(true)) => PathNormalization::MergeSlashes,
        (PathNormalization::MergeSlashes, Some(false)) => PathNormalization::Base,
        _ => mesh,
    }
}

fn details(written: resources::ClientCertDetails) -> ClientCertDetails {
    let resources::ClientCertDetails { subject, cert, chain, dns, uri } = written;
    ClientCertDetails { subject, cert, chain, dns, uri }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_say_nothing_are_the_default() {
        let mut table = SettingsTable::default();
        assert_eq!(table.id(Direction::Gateway), HttpSettingsId::default());
        assert_eq!(table.finish(), [Arc::default()]);
    }

    #[test]
    fn what_is_written_is_there_once() {
        let written = "defaultConfig: {proxyHeaders: {server: {value: shop}, requestId: {disabled: true}, xForwardedPort: \
                       {enabled: true}, setCurrentClientCertDetails: {cert: true}}}";
        let proxy_headers =
            resources::MeshConfig::read("mesh", written).whole().unwrap().proxy_headers.clone();
        let mut table = SettingsTable::new(&MeshOptions { proxy_headers, ..MeshOptions::default() });
        assert_eq!(table.id(Direction::Gateway), HttpSettingsId(1));
        assert_eq!(table.id(Direction::Gateway), HttpSettingsId(1));
        let expected = HttpSettings {
            headers: ProxyHeaders {
                server: ServerHeader::Named("shop".to_owned()),
                request_id: false,
                forwarded_port: true,
                ..ProxyHeaders::default()
            },
            limits: ClientLimits::default(),
            client_cert_details: Some(ClientCertDetails {
                subject: true,
                cert: true,
                chain: false,
                dns: true,
                uri: true,
            }),
        };
        assert_eq!(table.finish(), [Arc::default(), Arc::new(expected)]);
    }

    /// Limits of gateways and of sidecars, and the normal form of paths at gateways.
    fn limits(written: &str) -> (ClientLimits, ClientLimits, PathNormalization) {
        let text = format!("defaultConfig: {{connectionSettings: {{{written}}}}}");
        let connection_settings = resources::MeshConfig::read("mesh", &text).config.connection_settings;
        let paths = path_normalization(PathNormalization::Base, &connection_settings, Direction::Gateway);
        let mut table = SettingsTable::new(&MeshOptions { connection_settings, ..MeshOptions::default() });
        let [gateway, sidecar] = [Direction::Gateway, Direction::Inbound].map(|side| table.id(side).0);
        let list = table.finish();
        (list[usize::from(gateway)].limits, list[usize::from(sidecar)].limits, paths)
    }

    #[test]
    fn the_edge_is_at_gateways_and_what_is_written_goes_first() {
        let (gateway, sidecar, paths) = limits("profile: EDGE");
        assert_eq!((gateway, sidecar), (EDGE, ClientLimits::default()));
        assert_eq!(paths, PathNormalization::MergeSlashes);
        let written = "profile: EDGE, httpMaxConcurrentStreams: 7, httpIdleTimeout: 0s, httpMergeSlashes: false, \
                       httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_ALLOW";
        let (gateway, sidecar, paths) = limits(written);
        let changed = ClientLimits {
            idle_timeout: Some(Duration::MAX),
            streams: Some(7),
            refuses_underscores: false,
            ..EDGE
        };
        assert_eq!((gateway, paths), (changed, PathNormalization::Base));
        assert_eq!((sidecar.streams, sidecar.stream_window), (Some(7), None));
    }
}
