//! Loads certificates and authorities; what was good before stays when they are not.

use std::collections::HashMap;

use resources::ResourceSet;
use snapshot::{Authority, Certificate, Credential, Snapshot, TrustBundle};

use super::{
    Credentials, Unusable,
    outdated::{Outdated, outdated},
    source::{AuthoritySource, CredentialSource},
    stored::Stored,
};
use crate::proxy::Proxy;

/// What was loaded, and what is wrong with it.
type Loaded<T> = (T, Option<Unusable>);

/// Loads each certificate and authority once.
pub(super) struct Loader<'c> {
    stored: Stored<'c>,
    credentials: &'c Credentials<'c>,
    good_certificates: HashMap<&'c str, &'c Certificate>,
    good_authorities: HashMap<&'c str, &'c TrustBundle>,
    certificates: HashMap<String, Loaded<Option<Certificate>>>,
    authorities: HashMap<String, Loaded<Option<TrustBundle>>>,
    /// When certificates change places by the time alone, in seconds since 1970.
    changes_at: Option<i64>,
}

impl<'c> Loader<'c> {
    pub(super) fn new(
        resources: &'c ResourceSet,
        credentials: &'c Credentials<'c>,
        proxy: &'c Proxy,
    ) -> Self {
        let last_good = credentials.last_good;
        let certificates = last_good.into_iter().flat_map(Snapshot::credentials);
        let authorities = last_good.into_iter().flat_map(Snapshot::authorities);
        Self {
            stored: Stored::new(resources, credentials.files, proxy),
            credentials,
            good_certificates: certificates
                .filter_map(|c| Some((c.name.as_str(), c.certificate.as_ref()?)))
                .collect(),
            good_authorities: authorities
                .filter_map(|a| Some((a.name.as_str(), a.bundle.as_ref()?)))
                .collect(),
            certificates: HashMap::new(),
            authorities: HashMap::new(),
            changes_at: None,
        }
    }

    /// When the first certificate serves in the place of another by the time alone.
    pub(super) fn changes_at(&self) -> Option<i64> {
        self.changes_at
    }

    /// The time that certificates are judged at.
    pub(super) fn now(&self) -> Option<i64> {
        self.credentials.now
    }

    /// What the sources hold, right or wrong.
    pub(super) fn stored(&self) -> &Stored<'c> {
        &self.stored
    }

    /// The certificate of a source, and what is wrong with it.
    pub(super) fn credential(&mut self, source: CredentialSource<'_>) -> Loaded<Credential> {
        let (credential, wrong) = self.find_credential(source);
        let is_missing = credential.certificate.is_none();
        (credential, wrong.map(|wrong| if is_missing { wrong.refusing() } else { wrong }))
    }

    /// The authority of a source, and what is wrong with it.
    pub(super) fn authority(&mut self, source: AuthoritySource<'_>) -> Loaded<Authority> {
        let (authority, wrong) = self.find_authority(source);
        let is_missing = authority.bundle.is_none();
        (authority, wrong.map(|wrong| if is_missing { wrong.refusing() } else { wrong }))
    }

    /// The certificate of a source, and what is wrong with it; what it costs that there is none is left to be said.
    pub(super) fn find_credential(&mut self, source: CredentialSource<'_>) -> Loaded<Credential> {
        let name = source.name();
        let known = self.certificates.get(&name).cloned();
        let (certificate, unusable) = known.unwrap_or_else(|| {
            let good = self.good_certificates.get(name.as_str()).copied();
            let loaded = self.kept("certificate", self.certificate(source, good), good);
            let loaded = self.not_outdated(source, loaded, good);
            self.certificates.insert(name.clone(), loaded.clone());
            loaded
        });
        (Credential { name, certificate }, unusable)
    }

    /// The same for the authority of a source.
    pub(super) fn find_authority(&mut self, source: AuthoritySource<'_>) -> Loaded<Authority> {
        let name = source.name();
        let known = self.authorities.get(&name).cloned();
        let (bundle, unusable) = known.unwrap_or_else(|| {
            let good = self.good_authorities.get(name.as_str()).copied();
            let loaded = self.kept("CA certificate", self.bundle(source, good), good);
            self.authorities.insert(name.clone(), loaded.clone());
            loaded
        });
        (Authority { name, bundle }, unusable)
    }

    /// What was found, else what was good before. Where nobody can look nothing is missed.
    fn kept<T: Clone>(&self, what: &str, found: Result<T, Unusable>, good: Option<&T>) -> Loaded<Option<T>> {
        match found {
            Ok(found) => (Some(found), None),
            Err(unusable) if !self.stored.looks_at_files() && unusable.is_absent() => (None, None),
            Err(unusable) => match good {
                Some(good) => (Some(good.clone()), Some(unusable.keeping(what))),
                None => (None, Some(unusable)),
            },
        }
    }

    /// What was loaded, unless it is out of date and what was good before is better.
    fn not_outdated(
        &mut self,
        source: CredentialSource<'_>,
        (found, unusable): Loaded<Option<Certificate>>,
        good: Option<&Certificate>,
    ) -> Loaded<Option<Certificate>> {
        let kept = found.as_ref().zip(good).zip(self.now()).and_then(|((found, good), now)| {
            let field = source.field_of_certificate();
            (found != good).then(|| outdated(found, good, (field, &source.shown()), now))?
        });
        let Some(Outdated { unusable, until }) = kept else { return (found, unusable) };
        self.changes_at = self.changes_at.into_iter().chain(until).min();
        (good.cloned(), Some(unusable))
    }

    fn certificate(
        &self,
        source: CredentialSource<'_>,
        good: Option<&Certificate>,
    ) -> Result<Certificate, Unusable> {
        let certificate = self.stored.certificate(source)?;
        // One that serves already has been checked.
        if good == Some(&certificate) {
            return Ok(certificate);
        }
        let checked = (self.credentials.check_certificate)(&certificate);
        checked.map_err(|reason| self.stored.unusable_certificate(source, &reason))?;
        Ok(certificate)
    }

    fn bundle(
        &self,
        source: AuthoritySource<'_>,
        good: Option<&TrustBundle>,
    ) -> Result<TrustBundle, Unusable> {
        let bundle = self.stored.bundle(source)?;
        if good == Some(&bundle) {
            return Ok(bundle);
        }
        let checked = (self.credentials.check_authority)(&bundle);
        checked.map_err(|reason| self.stored.unusable_bundle(source, &reason))?;
        Ok(bundle)
    }
}
