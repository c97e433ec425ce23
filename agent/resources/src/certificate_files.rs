//! Certificates and keys that resources name by path.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ClientTls, ResourceSet, SecretBytes, ServerTls};

/// What the files hold that Gateways name, by path as written there. Debug shows no contents.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CertificateFiles {
    files: BTreeMap<String, Result<SecretBytes, String>>,
}

impl CertificateFiles {
    /// Takes in what a file holds, or why it cannot be read.
    pub fn insert(&mut self, path: impl Into<String>, contents: Result<Vec<u8>, String>) {
        self.files.insert(path.into(), contents.map(SecretBytes::from));
    }

    /// Forgets the files that are not among `wanted`.
    pub fn retain(&mut self, wanted: &BTreeSet<String>) {
        self.files.retain(|path, _| wanted.contains(path));
    }

    /// What the file holds.
    ///
    /// # Errors
    /// Why it cannot be read; also for a file that nobody has looked for.
    pub fn get(&self, path: &str) -> Result<&SecretBytes, &str> {
        match self.files.get(path) {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(reason)) => Err(reason),
            None => Err("it has not been read"),
        }
    }
}

impl ResourceSet {
    /// Paths of the certificates, keys and revocation lists that Gateways serve with.
    pub fn gateway_certificate_paths(&self) -> BTreeSet<String> {
        let servers = self.gateways().iter().flat_map(|gateway| &gateway.spec.servers);
        let terminating =
            servers.filter_map(|server| server.tls.as_ref()).filter(|tls| tls.mode.terminates());
        terminating.flat_map(ServerTls::paths).map(str::to_owned).collect()
    }

    /// Paths of the certificates, keys and revocation lists that Sidecars take TLS with.
    pub fn sidecar_certificate_paths(&self) -> BTreeSet<String> {
        let listeners = self.sidecars().iter().flat_map(|sidecar| &sidecar.spec.ingress);
        let tls = listeners.filter_map(|listener| listener.tls.as_ref());
        tls.flat_map(ServerTls::paths).map(str::to_owned).collect()
    }

    /// Paths of the certificates, keys and revocation lists that DestinationRules name.
    pub fn client_certificate_paths(&self) -> BTreeSet<String> {
        let rules = self.destination_rules().iter().map(|rule| &rule.spec);
        let policies = rules.flat_map(|rule| {
            let subsets = rule.subsets.iter().filter_map(|subset| subset.traffic_policy.as_ref());
            rule.traffic_policy.iter().chain(subsets)
        });
        let tls = policies.flat_map(|policy| {
            let ports = policy.port_level.iter().filter_map(|port| port.tls.as_ref());
            policy.tls.iter().chain(ports)
        });
        tls.flat_map(ClientTls::paths).map(str::to_owned).collect()
    }
}
