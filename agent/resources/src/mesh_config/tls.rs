//! Versions and algorithms for the whole mesh.

use crate::{
    TlsVersion,
    decode::{Fields, Shape},
};

/// `MeshConfig.TLSConfig`; what is empty is left to the proxy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MeshTls {
    /// Lowest version spoken.
    pub min_protocol_version: TlsVersion,
    /// Cipher suites of TLS 1.2 by OpenSSL's names, as written.
    pub cipher_suites: Vec<String>,
    /// Curves by name, as written.
    pub ecdh_curves: Vec<String>,
}

impl Shape for MeshTls {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            min_protocol_version: fields.or_default("minProtocolVersion"),
            cipher_suites: fields.or_default("cipherSuites"),
            ecdh_curves: fields.or_default("ecdhCurves"),
        }
    }
}
