//! Authorities of the tests, and the certificates they issue.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use snapshot::{Authority, TrustBundle};

/// An authority of its own.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, by an issuer.
pub(crate) struct Issued {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: KeyPair,
    serial: SerialNumber,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        change(&mut params);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, names: &[SanType], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([]).unwrap();
        let serial = SerialNumber::from(fastrand::u64(1..).to_be_bytes().to_vec());
        params.serial_number = Some(serial.clone());
        params.subject_alt_names = names.to_vec();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.0).unwrap().der().clone();
        Issued { der, key, serial }
    }

    pub(crate) fn client(&self, name: &str) -> Issued {
        self.issue(&[SanType::DnsName(name.try_into().unwrap())], |_| {})
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn authority(&self) -> Authority {
        let bundle = TrustBundle { certificates: [self.der()].into(), revocations: [].into() };
        Authority { name: "kubernetes://ca-cacert".to_owned(), bundle: Some(bundle) }
    }

    /// The authority, with a list of what it revoked.
    pub(crate) fn revoking(&self, revoked: &[&Issued]) -> Authority {
        let revoked = revoked.iter().map(|issued| RevokedCertParams {
            serial_number: issued.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.0).unwrap().der().clone();
        let bundle = TrustBundle { certificates: [self.der()].into(), revocations: [list].into() };
        Authority { bundle: Some(bundle), ..self.authority() }
    }
}

impl Issued {
    /// One that has signed itself, as `openssl req -x509` makes it: it is its own authority.
    pub(crate) fn by_itself(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, key, serial: SerialNumber::from(1) }
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}
