//! What a filter chain needs to terminate TLS, as plain data.

use std::{fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroize;

/// Position of a TLS context in [`crate::Snapshot::tls_contexts`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TlsContextId(pub u32);

/// How TLS is terminated, shared by every filter chain that names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsContext {
    /// Istio's name of the credential: `kubernetes://<secret>` or `file-cert:<certificate>~<key>`. Distinct within a
    /// snapshot.
    pub name: String,
    /// What the server proves its name with; `None` when there is no usable certificate, so that every handshake is
    /// refused.
    pub certificate: Option<Certificate>,
    /// Protocols offered to the client, the preferred first (RFC 7301).
    pub alpn: Vec<String>,
}

/// A certificate with its chain and private key. Cloning it is cheap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKey>,
}

impl Certificate {
    /// Takes the server's certificate followed by its issuers, and the key. Whether they belong together is not looked
    /// at here.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain: chain.into(), key: Arc::new(PrivateKey(key)) }
    }

    /// The server's certificate followed by its issuers, DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key, for use, not for show.
    pub fn expose_key(&self) -> &PrivateKeyDer<'static> {
        &self.key.0
    }
}

/// What is shown in place of a private key.
pub(crate) const REDACTED: &str = "[redacted]";

/// A key that is never shown and leaves no copy in freed memory.
#[derive(Eq, PartialEq)]
struct PrivateKey(PrivateKeyDer<'static>);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;

    #[test]
    fn keys_are_never_shown() {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(b"topsecret".to_vec()));
        let certificate = Certificate::new(vec![CertificateDer::from(b"public".to_vec())], key);
        let shown = format!("{certificate:?} {certificate:#?}");
        assert!(shown.contains("[redacted]"), "{shown}");
        // 116 is `t`, the first byte of the key, as Debug would print it.
        assert!(!shown.contains("topsecret") && !shown.contains("116, 111"), "{shown}");
    }
}
