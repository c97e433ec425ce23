//! The cryptographic library, narrowed to the versions and algorithms that a configuration allows.

use std::sync::Arc;

use rustls::{
    CipherSuite as Suite, NamedGroup, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};
use snapshot::{CipherSuite, KeyExchange, TlsParameters, TlsVersion};

pub(super) fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// The provider with only what `parameters` allow, in their order.
pub(super) fn provider_for(parameters: &TlsParameters) -> Arc<CryptoProvider> {
    let mut provider = provider();
    if !parameters.cipher_suites.is_empty() {
        let known = std::mem::take(&mut provider.cipher_suites);
        let chosen = parameters.cipher_suites.iter().map(|suite| suite_of(*suite));
        let chosen = chosen.filter_map(|suite| known.iter().find(|known| known.suite() == suite));
        let of_1_3 = known.iter().filter(|suite| suite.tls13().is_some());
        provider.cipher_suites = of_1_3.chain(chosen).copied().collect();
    }
    if !parameters.key_exchanges.is_empty() {
        let known = aws_lc_rs::ALL_KX_GROUPS;
        let wanted = parameters.key_exchanges.iter().map(|group| group_of(*group));
        let chosen = wanted.filter_map(|group| known.iter().find(|known| known.name() == group));
        provider.kx_groups = chosen.copied().collect();
    }
    Arc::new(provider)
}

pub(super) fn versions(parameters: &TlsParameters) -> Vec<&'static SupportedProtocolVersion> {
    let known = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
    known.into_iter().filter(|(version, _)| parameters.allows(*version)).map(|(_, version)| version).collect()
}

fn suite_of(suite: CipherSuite) -> Suite {
    match suite {
        CipherSuite::EcdheEcdsaAes128Gcm => Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256Gcm => Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChacha20 => Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheRsaAes128Gcm => Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes256Gcm => Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaChacha20 => Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group_of(group: KeyExchange) -> NamedGroup {
    match group {
        KeyExchange::X25519MlKem768 => NamedGroup::X25519MLKEM768,
        KeyExchange::X25519 => NamedGroup::X25519,
        KeyExchange::P256 => NamedGroup::secp256r1,
        KeyExchange::P384 => NamedGroup::secp384r1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_suite_or_group_has_something_behind_it() {
        for (name, suite) in CipherSuite::NAMES {
            let parameters = TlsParameters { cipher_suites: vec![suite], ..TlsParameters::default() };
            let of_1_2 =
                provider_for(&parameters).cipher_suites.iter().filter(|s| s.tls13().is_none()).count();
            assert_eq!(of_1_2, 1, "{name}");
        }
        for (name, group) in KeyExchange::NAMES {
            let parameters = TlsParameters { key_exchanges: vec![group], ..TlsParameters::default() };
            assert_eq!(provider_for(&parameters).kx_groups.len(), 1, "{name}");
        }
    }
}
