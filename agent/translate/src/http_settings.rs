//! How HTTP connections are treated, by the side of the proxy that they come to.

use std::{sync::Arc, time::Duration};

use resources::{ConnectionSettings, Profile};
use snapshot::{
    ClientCertDetails, ClientLimits, Direction, EscapedSlashes, HttpSettings, HttpSettingsId,
    PathNormalization, ProxyHeaders, ServerHeader, Underscores,
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
    let underscores = written.underscores.map(|action| match action {
        resources::Underscores::Allow => Underscores::Allowed,
        resources::Underscores::RejectRequest => Underscores::Refused,
        resources::Underscores::DropHeader => Underscores::Dropped,
    });
    ClientLimits {
        idle_timeout: written.idle_timeout.map(forever).or(default.idle_timeout),
        head_timeout: written.head_timeout.map(forever).or(default.head_timeout),
        stream_idle_timeout: written.stream_idle_timeout.map(forever).or(default.stream_idle_timeout),
        request_timeout: limited(written.request_timeout, default.request_timeout),
        max_stream_duration: limited(written.max_stream_duration, default.max_stream_duration),
        max_connection_duration: limited(written.max_connection_duration, default.max_connection_duration),
        streams: written.streams.or(default.streams),
        stream_window: written.stream_window.or(default.stream_window),
        connection_window: written.connection_window.or(default.connection_window),
        underscores: underscores.unwrap_or(default.underscores),
    }
}

/// A limit that nobody has unless it is written; zero takes away what the profile brings.
fn limited(written: Option<Duration>, default: Option<Duration>) -> Option<Duration> {
    written.map_or(default, |limit| Some(limit).filter(|limit| !limit.is_zero()))
}

/// What Envoy recommends where strangers come in, as Istio has it.
const EDGE: ClientLimits = ClientLimits {
    idle_timeout: Some(Duration::from_secs(3600)),
    head_timeout: Some(Duration::from_secs(60)),
    stream_idle_timeout: Some(Duration::from_secs(300)),
    request_timeout: Some(Duration::from_secs(300)),
    max_stream_duration: None,
    max_connection_duration: None,
    streams: Some(100),
    stream_window: Some(64 * 1024),
    connection_window: Some(1024 * 1024),
    underscores: Underscores::Refused,
};

fn is_edge(written: &ConnectionSettings, direction: Direction) -> bool {
    direction == Direction::Gateway && written.profile == Some(Profile::Edge)
}

/// The normal form of paths that come to listeners of this side, and what becomes of escaped slashes before: slashes are
/// merged and escapes undone, or not, where it is said.
pub(crate) fn path_normalization(
    mesh: PathNormalization,
    written: &ConnectionSettings,
    direction: Direction,
) -> (PathNormalization, EscapedSlashes) {
    let is_edge = is_edge(written, direction);
    let merges = written.merge_slashes.or(is_edge.then_some(true));
    let slashes = written.escaped_slashes.map(|action| match action {
        resources::EscapedSlashes::KeepUnchanged => EscapedSlashes::Kept,
        resources::EscapedSlashes::RejectRequest => EscapedSlashes::Refused,
        resources::EscapedSlashes::UnescapeAndRedirect => EscapedSlashes::Redirected,
        resources::EscapedSlashes::UnescapeAndForward => EscapedSlashes::Undone,
    });
    let slashes = slashes.or(is_edge.then_some(EscapedSlashes::Redirected));
    // What one word of the mesh says of both.
    let (form, undone) = match mesh {
        PathNormalization::DecodeAndMergeSlashes if merges.is_some() || slashes.is_some() => {
            (PathNormalization::MergeSlashes, EscapedSlashes::Undone)
        }
        form => (form, EscapedSlashes::Kept),
    };
    let form = match (form, merges) {
        (PathNormalization::Base, Some(true)) => PathNormalization::MergeSlashes,
        (PathNormalization::MergeSlashes, Some(false)) => PathNormalization::Base,
        _ => form,
    };
    (form, slashes.unwrap_or(undone))
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
    fn limits(written: &str) -> (ClientLimits, ClientLimits, (PathNormalization, EscapedSlashes)) {
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
        assert_eq!(paths, (PathNormalization::MergeSlashes, EscapedSlashes::Redirected));
        let written = "profile: EDGE, httpMaxConcurrentStreams: 7, httpIdleTimeout: 0s, httpMergeSlashes: false, \
                       httpHeadersWithUnderscoresAction: HEADERS_WITH_UNDERSCORES_ALLOW, httpRequestTimeout: 0s, \
                       httpMaxStreamDuration: 9s, httpPathWithEscapedSlashesAction: KEEP_UNCHANGED";
        let (gateway, sidecar, paths) = limits(written);
        let changed = ClientLimits {
            idle_timeout: Some(Duration::MAX),
            streams: Some(7),
            request_timeout: None,
            max_stream_duration: Some(Duration::from_secs(9)),
            underscores: Underscores::Allowed,
            ..EDGE
        };
        assert_eq!((gateway, paths), (changed, (PathNormalization::Base, EscapedSlashes::Kept)));
        assert_eq!((sidecar.streams, sidecar.stream_window), (Some(7), None));
        assert_eq!(
            (sidecar.max_stream_duration, sidecar.stream_idle_timeout),
            (Some(Duration::from_secs(9)), None)
        );
    }

    #[test]
    fn what_the_mesh_says_of_slashes_gives_way_to_what_is_written() {
        let of = |merge_slashes, escaped_slashes| {
            let mut written = ConnectionSettings::default();
            (written.merge_slashes, written.escaped_slashes) = (merge_slashes, escaped_slashes);
            path_normalization(PathNormalization::DecodeAndMergeSlashes, &written, Direction::Inbound)
        };
        let refused = Some(resources::EscapedSlashes::RejectRequest);
        assert_eq!(of(None, None), (PathNormalization::DecodeAndMergeSlashes, EscapedSlashes::Kept));
        assert_eq!(of(Some(false), None), (PathNormalization::Base, EscapedSlashes::Undone));
        assert_eq!(of(None, refused), (PathNormalization::MergeSlashes, EscapedSlashes::Refused));
    }
}
