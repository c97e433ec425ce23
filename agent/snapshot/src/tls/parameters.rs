//! Versions and algorithms of TLS, by the names that Istio has for them.

use std::str::FromStr;

/// Versions and algorithms that are agreed to; empty lists stand for all that are good.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsParameters {
    /// The lowest version.
    pub min_version: TlsVersion,
    /// The highest version; never below the lowest.
    pub max_version: Option<TlsVersion>,
    /// For TLS 1.2 only, in order of preference; those of TLS 1.3 cannot be chosen.
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups for the exchange of keys, in order of preference.
    pub key_exchanges: Vec<KeyExchange>,
}

impl TlsParameters {
    /// Whether a version is agreed to.
    pub fn allows(&self, version: TlsVersion) -> bool {
        self.min_version <= version && self.max_version.is_none_or(|max| version <= max)
    }
}

/// Versions that are spoken here.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// Cipher suites of TLS 1.2 that are spoken here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "their names are defined in RFC 5289 and RFC 7905")]
pub enum CipherSuite {
    EcdheEcdsaAes128Gcm,
    EcdheEcdsaAes256Gcm,
    EcdheEcdsaChacha20,
    EcdheRsaAes128Gcm,
    EcdheRsaAes256Gcm,
    EcdheRsaChacha20,
}

impl CipherSuite {
    /// All, with their names in OpenSSL.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", Self::EcdheEcdsaAes128Gcm),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", Self::EcdheEcdsaAes256Gcm),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", Self::EcdheEcdsaChacha20),
        ("ECDHE-RSA-AES128-GCM-SHA256", Self::EcdheRsaAes128Gcm),
        ("ECDHE-RSA-AES256-GCM-SHA384", Self::EcdheRsaAes256Gcm),
        ("ECDHE-RSA-CHACHA20-POLY1305", Self::EcdheRsaChacha20),
    ];
}

impl FromStr for CipherSuite {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, suite)| suite).ok_or(())
    }
}

/// Groups for the exchange of keys that are spoken here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyExchange {
    /// X25519 with ML-KEM 768 beside it.
    X25519MlKem768,
    /// RFC 7748.
    X25519,
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

impl KeyExchange {
    /// All, with Envoy's names for them.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("X25519MLKEM768", Self::X25519MlKem768),
        ("X25519", Self::X25519),
        ("P-256", Self::P256),
        ("P-384", Self::P384),
    ];
}

impl FromStr for KeyExchange {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, group)| group).ok_or(())
    }
}
