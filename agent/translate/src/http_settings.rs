//! How HTTP connections are treated, by the side of the proxy that they come to.

use std::sync::Arc;

use snapshot::{ClientCertDetails, Direction, HttpSettings, HttpSettingsId, ProxyHeaders, ServerHeader};

use crate::proxy::MeshOptions;

/// Settings in the making: each once, the default first.
#[derive(Debug)]
pub(crate) struct SettingsTable {
    of_chains: HttpSettings,
    list: Vec<Arc<HttpSettings>>,
}

impl Default for SettingsTable {
    fn default() -> Self {
        Self::new(&MeshOptions::default())
    }
}

impl SettingsTable {
    pub(crate) fn new(mesh: &MeshOptions) -> Self {
        Self { of_chains: of(mesh), list: vec![Arc::default()] }
    }

    /// The settings of a chain of a listener of this side.
    pub(crate) fn id(&mut self, _: Direction) -> HttpSettingsId {
        let settings = &self.of_chains;
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
    HttpSettings { headers, client_cert_details }
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
}
