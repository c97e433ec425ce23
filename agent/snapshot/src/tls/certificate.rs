//! Certificates, keys and authorities. A key is never shown.

use std::{fmt, sync::Arc};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use zeroize::Zeroize;

/// A certificate by the name of where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// Istio's name: `kubernetes://<secret>`, `file-cert:<certificate>~<key>`, `default` for the workload's own.
    pub name: String,
    /// `None` when there is no usable certificate.
    pub certificate: Option<Certificate>,
}

/// A certificate with its chain and private key. Cloning it is cheap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKey>,
    staple: Option<Arc<[u8]>>,
}

impl Certificate {
    /// Takes the server's certificate followed by its issuers, and the key. Whether they belong together is not looked
    /// at here.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain: chain.into(), key: Arc::new(PrivateKey(key)), staple: None }
    }

    /// With an answer of its authority that it is not revoked (OCSP, DER), for clients that ask for it.
    #[must_use]
    pub fn with_staple(self, staple: &[u8]) -> Self {
        Self { staple: Some(staple.into()), ..self }
    }

    /// The server's certificate followed by its issuers, DER.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key, for use, not for show.
    pub fn expose_key(&self) -> &PrivateKeyDer<'static> {
        &self.key.0
    }

    /// The OCSP answer that is stapled to it.
    pub fn staple(&self) -> Option<&[u8]> {
        self.staple.as_deref()
    }
}

/// CA certificates that others are checked against, and what their authorities have revoked. Cloning it is cheap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustBundle {
    /// At least one.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Empty when nobody is asked.
    pub revocations: CrlBundle,
}

impl TrustBundle {
    /// Whether it accepts all that `other` accepts, as far as that can be told without looking into the lists.
    pub fn trusts_all_of(&self, other: &Self) -> bool {
        let trusts = |certificate| self.certificates.contains(certificate);
        self.revocations == other.revocations
            && (self.certificates == other.certificates || other.certificates.iter().all(trusts))
    }
}

/// Revocation lists, DER.
pub type CrlBundle = Arc<[CertificateRevocationListDer<'static>]>;

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
