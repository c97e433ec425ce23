//! The authorities that peers are verified by. webpki knows their names and keys and not their dates, so that one which
//! has ended would be believed for ever; here each counts only while it is in force.

use std::ops::RangeInclusive;

use rustls::{
    CertificateError as Wrong, Error, RootCertStore,
    pki_types::{CertificateDer, UnixTime},
};
use snapshot::{CertificateFacts, TrustBundle};

use super::certificate::CertificateError;

/// Authorities and when each is in force, in seconds since 1970.
#[derive(Debug)]
pub(super) struct Authorities {
    known: Vec<(CertificateDer<'static>, RangeInclusive<i64>)>,
    /// What webpki makes of all of them.
    roots: RootCertStore,
}

impl Authorities {
    /// Those of a bundle.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn of(bundle: &TrustBundle) -> Result<Self, CertificateError> {
        let mut authorities = Self::none();
        bundle.certificates.iter().try_for_each(|certificate| authorities.add(certificate.clone()))?;
        Ok(authorities)
    }

    /// Those that can be read: one that cannot is one fewer.
    pub(super) fn readable(certificates: Vec<CertificateDer<'static>>) -> Self {
        let mut authorities = Self::none();
        for certificate in certificates {
            _ = authorities.add(certificate);
        }
        authorities
    }

    fn none() -> Self {
        Self { known: Vec::new(), roots: RootCertStore::empty() }
    }

    fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), CertificateError> {
        let facts = CertificateFacts::of(&certificate).map_err(|_| CertificateError::Malformed)?;
        self.roots.add(certificate.clone()).map_err(|_| CertificateError::Malformed)?;
        self.known.push((certificate, facts.not_before..=facts.not_after));
        Ok(())
    }

    /// All of them.
    pub(super) fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// Verifies by those in force now: with `whole`, which was made of all, when all are. Otherwise, which is rare and
    /// lasts until the bundle is put in order, a verifier is made of the others for this one handshake.
    ///
    /// # Errors
    /// That of `verify`; that something has expired, where only authorities no longer in force would do.
    pub(super) fn verify<V, T>(
        &self,
        now: UnixTime,
        (whole, make): (&V, impl Fn(RootCertStore) -> Option<V>),
        verify: impl Fn(&V, &RootCertStore) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let seconds = seconds(now);
        if self.known.iter().all(|(_, dates)| dates.contains(&seconds)) {
            return verify(whole, &self.roots);
        }
        let in_force = self.known.iter().filter(|(_, dates)| dates.contains(&seconds));
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(in_force.map(|(certificate, _)| certificate.clone()));
        let expired = Err(Error::InvalidCertificate(Wrong::Expired));
        let Some(some) = make(roots.clone()) else { return expired };
        match verify(&some, &roots) {
            // Another one may have its name, so that the signature is what fails.
            Err(_) if verify(whole, &self.roots).is_ok() => expired,
            verified => verified,
        }
    }

    /// Whether a peer's certificate is itself among them and in force: that is how one that has signed itself is trusted.
    /// webpki takes no authority for a peer, and `openssl req -x509` makes nothing but authorities.
    pub(super) fn hold(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let seconds = seconds(now);
        self.known.iter().any(|(known, dates)| known == certificate && dates.contains(&seconds))
    }
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Whether an error says that a peer shows the certificate of an authority.
pub(super) fn is_of_authority(error: &Error) -> bool {
    // Of its type only rustls knows.
    matches!(error, Error::InvalidCertificate(Wrong::Other(other)) if other.to_string() == "CaUsedAsEndEntity")
}
