//! What is asked of the certificates of peers: of clients here, and the rules that endpoints share.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    DistinguishedName, Error, RootCertStore,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use snapshot::{CertificateFacts, ClientCertificates, CrlBundle, PeerRules};

use super::{
    authorities::{Authorities, is_of_authority},
    certificate::CertificateError,
    first_version,
    signatures::signatures,
};

/// The verifier for what is asked of clients, or `None` when nobody could satisfy it.
pub(super) fn verifier(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
    let algorithms = provider.signature_verification_algorithms;
    let (rules, mandatory) = match clients {
        ClientCertificates::NotAsked => return Ok(Some(WebPkiClientVerifier::no_client_auth())),
        ClientCertificates::Unverified { required } => {
            return Ok(Some(Arc::new(Anybody { algorithms, required: *required })));
        }
        ClientCertificates::Optional(rules) => (rules, false),
        ClientCertificates::Required(rules) => (rules, true),
    };
    let Some(bundle) = &rules.authority.bundle else { return Ok(None) };
    let authorities = Authorities::of(bundle)?;
    let revocations = Arc::clone(&bundle.revocations);
    let chain = chain_verifier(authorities.roots(), &revocations, provider, mandatory)?;
    let (provider, rules) = (Arc::clone(provider), rules.clone());
    Ok(Some(Arc::new(ByRules { authorities, revocations, chain, rules, provider, algorithms })))
}

/// Verifies that certificates come from an authority and are not revoked by it.
pub(super) fn chain_verifier(
    roots: &RootCertStore,
    revocations: &CrlBundle,
    provider: &Arc<CryptoProvider>,
    mandatory: bool,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let roots = Arc::new(roots.clone());
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if !revocations.is_empty() {
        // The list of the authority that issued the peer's own certificate must be there and in force.
        builder = builder
            .with_crls(revocations.iter().cloned())
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    if !mandatory {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|_| match revocations.is_empty() {
        true => CertificateError::Malformed,
        false => CertificateError::RevocationList,
    })
}

/// Checks the rules beyond the chain.
pub(super) fn check_rules(certificate: &CertificateDer<'_>, rules: &PeerRules) -> Result<(), Error> {
    let malformed = |_| Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
    let refused = || Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure);
    if !rules.names.is_empty() {
        let facts = CertificateFacts::of(certificate).map_err(malformed)?;
        let accepted = facts.names.iter().any(|name| rules.names.iter().any(|rule| rule.accepts(name)));
        accepted.then_some(()).ok_or_else(refused)?;
    }
    if !(rules.public_keys.is_empty() && rules.certificates.is_empty()) {
        let public_key = CertificateFacts::public_key(certificate).map_err(malformed)?;
        let listed = |list: &[[u8; 32]], bytes: &[u8]| {
            let digest = digest(&SHA256, bytes);
            list.iter().any(|listed| listed == digest.as_ref())
        };
        let accepted = listed(&rules.public_keys, public_key) || listed(&rules.certificates, certificate);
        accepted.then_some(()).ok_or_else(refused)?;
    }
    Ok(())
}

/// The chain, then everything else that is asked.
#[derive(Debug)]
struct ByRules {
    authorities: Authorities,
    revocations: CrlBundle,
    /// By all authorities.
    chain: Arc<dyn ClientCertVerifier>,
    rules: PeerRules,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ByRules {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let make = |roots| {
            chain_verifier(&roots, &self.revocations, &self.provider, self.chain.client_auth_mandatory()).ok()
        };
        // What webpki does not take can have been revoked without anybody noticing.
        let is_lenient = self.revocations.is_empty();
        self.authorities.verify(now, (&self.chain, make), |chain, roots| {
            match chain.verify_client_cert(certificate, intermediates, now) {
                Err(error) if is_lenient && first_version::is_cause(&error) => {
                    Ok(first_version::verify(certificate, roots, (now, &self.algorithms))?)
                }
                Err(error)
                    if is_lenient && is_of_authority(&error) && self.authorities.hold(certificate, now) =>
                {
                    Ok(())
                }
                verified => verified.map(|_| ()),
            }
        })?;
        check_rules(certificate, &self.rules)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}

/// Accepts whatever certificate a client has the key of (`insecureSkipVerify`).
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
    required: bool,
}

impl ClientCertVerifier for Anybody {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
