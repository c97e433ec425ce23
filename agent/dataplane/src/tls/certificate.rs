//! Whether certificates and authorities can be used, and why not.

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
    sign::CertifiedKey,
};
use snapshot::{Certificate, CertificateFacts, TrustBundle};

use super::{authorities::Authorities, clients::chain_verifier, provider::provider};

/// Why a certificate or an authority cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// The key belongs to another certificate.
    #[error("key does not match certificate")]
    KeyMismatch,
    /// The key belongs to another certificate of the chain, which is in the wrong order.
    #[error(
        "key is for certificate {0} of the chain, not for the first: write the server's own certificate first, its issuers after it"
    )]
    WrongOrder(usize),
    /// The certificate is not X.509 as RFC 5280 has it.
    #[error("certificate is not valid X.509")]
    Malformed,
    /// The key is of no kind that can sign here.
    #[error("key is not usable: expected RSA of 2048–8192 bits, ECDSA P-256, P-384 or P-521, or Ed25519")]
    KeyUnusable,
    /// A revocation list cannot be read.
    #[error("revocation list is not valid: expected a complete X.509 CRL of version 2")]
    RevocationList,
    /// Versions and algorithms leave nothing to agree on.
    #[error("versions, cipher suites and groups leave nothing to agree on")]
    Parameters,
    /// The cryptographic library gives up.
    #[error("no random numbers for session tickets")]
    NoTickets,
}

/// Checks that a certificate can serve: that it can be read, that its key can sign, that the two belong together.
///
/// # Errors
/// What is wrong, without any bytes of the key.
pub fn check_certificate(certificate: &Certificate) -> Result<(), CertificateError> {
    certified_key(certificate, &provider()).map(|_| ())
}

/// Checks that others can be verified with these authorities.
///
/// # Errors
/// What is wrong.
pub fn check_authority(bundle: &TrustBundle) -> Result<(), CertificateError> {
    let authorities = Authorities::of(bundle)?;
    chain_verifier(authorities.roots(), &bundle.revocations, &provider().into(), true).map(|_| ())
}

pub(super) fn certified_key(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let key = provider.key_provider.load_private_key(certificate.expose_key().clone_key());
    let key = key.map_err(|_| CertificateError::KeyUnusable)?;
    let mut certified = CertifiedKey::new(certificate.chain().to_vec(), key);
    certified.ocsp = certificate.staple().map(<[u8]>::to_vec);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(mismatch(certificate, certified.key.public_key()))
        }
        // What rustls cannot read it can still serve: the first version of X.509, as `openssl x509 -req` without
        // extensions makes it.
        Err(_) => match (certificate.chain().first().and_then(public_key), certified.key.public_key()) {
            (Some(certified_for), Some(own)) if certified_for == own.as_ref() => Ok(certified),
            (Some(_), own @ Some(_)) => Err(mismatch(certificate, own)),
            _ => Err(CertificateError::Malformed),
        },
    }
}

/// Why a key does not belong to the first certificate of a chain.
fn mismatch(certificate: &Certificate, own: Option<SubjectPublicKeyInfoDer<'_>>) -> CertificateError {
    let is_own = |other| own.is_some() && public_key(other).as_deref() == own.as_deref();
    match certificate.chain().iter().position(is_own) {
        Some(place) => CertificateError::WrongOrder(place + 1),
        None => CertificateError::KeyMismatch,
    }
}

/// The SubjectPublicKeyInfo of a certificate, DER.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    CertificateFacts::of(certificate).ok().map(|facts| facts.public_key)
}
