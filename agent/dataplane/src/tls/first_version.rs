//! Certificates of X.509 version 1, which webpki does not read: `openssl x509 -req` makes them unless it is told
//! extensions, and so do the examples that Istio shows for its gateways.
//!
//! They have no extensions, and so no alternative names, purposes or constraints. Taken is what such a certificate can
//! prove: that a trusted authority has issued it itself. Whoever asks for more, such as names or revocation, does not get
//! it.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime},
};
use snapshot::CertificateFacts;

/// What webpki, of which only rustls knows the types, calls them.
const NOT_READ: &str = "UnsupportedCertVersion";

/// Whether an error says that a certificate is of the first version.
pub(super) fn is_cause(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string() == NOT_READ)
}

/// A certificate of the first version, DER in parts (RFC 5280 §4.1).
struct FirstVersion<'c> {
    /// What the authority has signed.
    signed: &'c [u8],
    /// How, and the signature.
    algorithm: &'c [u8],
    signature: &'c [u8],
    issuer: &'c [u8],
    public_key: PublicKey<'c>,
}

/// SubjectPublicKeyInfo in parts.
struct PublicKey<'k> {
    algorithm: &'k [u8],
    key: &'k [u8],
}

/// Verifies that one of the authorities has issued a certificate of the first version itself, and that it is in force.
///
/// # Errors
/// It is not so, or it is no such certificate.
pub(super) fn verify(
    certificate: &CertificateDer<'_>,
    authorities: &RootCertStore,
    (now, algorithms): (UnixTime, &WebPkiSupportedAlgorithms),
) -> Result<(), CertificateError> {
    let read = FirstVersion::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let facts = CertificateFacts::of(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < facts.not_before {
        return Err(CertificateError::NotValidYet);
    }
    if now > facts.not_after {
        return Err(CertificateError::Expired);
    }
    // Constraints on names would have to be kept to.
    let named = authorities.roots.iter().filter(|authority| {
        authority.subject.as_ref() == read.issuer && authority.name_constraints.is_none()
    });
    let mut wrong = CertificateError::UnknownIssuer;
    for authority in named {
        let key = PublicKey::read(&authority.subject_public_key_info).ok_or(CertificateError::BadEncoding)?;
        let mut fitting =
            algorithms.all.iter().filter(|one| one.signature_alg_id().as_ref() == read.algorithm);
        if fitting.any(|one| key.has_signed(*one, read.signed, read.signature)) {
            return Ok(());
        }
        wrong = CertificateError::BadSignature;
    }
    Err(wrong)
}

/// Verifies that whoever shows a certificate of the first version has its key, in TLS 1.2.
pub(super) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    verify_signature(message, certificate, signature, fitting(signature.scheme, algorithms))
}

/// Verifies that whoever shows a certificate of the first version has its key, in TLS 1.3.
pub(super) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    use SignatureScheme as Scheme;
    // Those of TLS 1.2 alone (RFC 8446 §4.2.3).
    if let Scheme::RSA_PKCS1_SHA1
    | Scheme::ECDSA_SHA1_Legacy
    | Scheme::RSA_PKCS1_SHA256
    | Scheme::RSA_PKCS1_SHA384
    | Scheme::RSA_PKCS1_SHA512 = signature.scheme
    {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    // The scheme says the curve here; the first is the one that does.
    let fitting = &fitting(signature.scheme, algorithms);
    verify_signature(message, certificate, signature, &fitting[..fitting.len().min(1)])
}

fn fitting(
    scheme: SignatureScheme,
    algorithms: &WebPkiSupportedAlgorithms,
) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    let known = algorithms.mapping.iter().find(|(known, _)| *known == scheme);
    known.map_or(&[], |(_, fitting)| fitting)
}

fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    fitting: &[&'static dyn SignatureVerificationAlgorithm],
) -> Result<HandshakeSignatureValid, Error> {
    if fitting.is_empty() {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let read = FirstVersion::read(certificate).ok_or(CertificateError::BadEncoding)?;
    let proved = fitting.iter().any(|one| read.public_key.has_signed(*one, message, signature.signature()));
    if proved { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
}

const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const SEQUENCE: u8 = 0x30;

impl<'c> FirstVersion<'c> {
    fn read(certificate: &'c [u8]) -> Option<Self> {
        let (whole, []) = element(SEQUENCE, certificate)? else { return None };
        let (parts, rest) = element(SEQUENCE, whole)?;
        let signed = &whole[..whole.len() - rest.len()];
        let (algorithm, rest) = element(SEQUENCE, rest)?;
        let (signature, []) = element(BIT_STRING, rest)? else { return None };
        // Later versions begin with their number.
        let (_, parts) = element(INTEGER, parts)?;
        let (same_algorithm, parts) = element(SEQUENCE, parts)?;
        let (issuer, parts) = element(SEQUENCE, parts)?;
        let (_validity, parts) = element(SEQUENCE, parts)?;
        let (_subject, parts) = element(SEQUENCE, parts)?;
        let (public_key, []) = element(SEQUENCE, parts)? else { return None };
        let public_key = PublicKey::read(public_key)?;
        let read = Self { signed, algorithm, signature: whole_bytes(signature)?, issuer, public_key };
        (same_algorithm == algorithm).then_some(read)
    }
}

impl<'k> PublicKey<'k> {
    fn read(info: &'k [u8]) -> Option<Self> {
        let (algorithm, rest) = element(SEQUENCE, info)?;
        let (key, []) = element(BIT_STRING, rest)? else { return None };
        Some(Self { algorithm, key: whole_bytes(key)? })
    }

    fn has_signed(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        algorithm.public_key_alg_id().as_ref() == self.algorithm
            && algorithm.verify_signature(self.key, message, signature).is_ok()
    }
}

/// The content of the DER element of this kind that `bytes` begin with, and what follows it (X.690 §8.1, §10.1).
fn element(kind: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        // Nothing here is longer than 64 KiB.
        _ => return None,
    };
    (found == kind).then_some(())?;
    rest.split_at_checked(length)
}

/// The bytes of a bit string that has no odd bits.
fn whole_bytes(bits: &[u8]) -> Option<&[u8]> {
    bits.split_first().filter(|(odd, _)| **odd == 0).map(|(_, bytes)| bytes)
}

#[cfg(test)]
mod tests;
