//! Why the certificate of an endpoint is refused: what was expected, and what it has instead.

use std::{io, sync::Arc};

use rustls::{CertificateError as Wrong, Error, OtherError, pki_types::CertificateDer};
use snapshot::{CertificateFacts, NameMatch, ServerCheck};

use crate::tls::authorities::is_of_authority;

/// That a certificate has none of the names that are asked for.
#[derive(Debug, thiserror::Error)]
#[error("the endpoint's certificate has none of the names that are expected ({expected}): it is for {found}")]
struct Misnamed {
    expected: String,
    found: String,
}

/// The error for a certificate without any of the names, of which rustls could tell nothing.
pub(in crate::tls) fn misnamed(certificate: &CertificateDer<'_>, expected: &[NameMatch]) -> Error {
    let Ok(facts) = CertificateFacts::of(certificate) else {
        return Error::InvalidCertificate(Wrong::BadEncoding);
    };
    let misnamed = Misnamed {
        expected: listed(expected.iter().map(|name| match name {
            NameMatch::Exact(name) => (name.as_str(), ""),
            NameMatch::Prefix(prefix) => (prefix.as_str(), "*"),
        })),
        found: listed(facts.names.iter().map(|name| (name.as_str(), ""))),
    };
    Error::InvalidCertificate(Wrong::Other(OtherError(Arc::new(misnamed))))
}

/// A failed handshake with an endpoint that had to meet `check`, in words where those of rustls tell too little.
pub(in crate::tls) fn of_endpoint(error: io::Error, check: &ServerCheck) -> io::Error {
    let known = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match known.and_then(|known| in_words(known, check)) {
        Some(words) => io::Error::new(error.kind(), words),
        None => error,
    }
}

fn in_words(error: &Error, check: &ServerCheck) -> Option<String> {
    let Error::InvalidCertificate(wrong) = error else { return None };
    let authority = match check {
        ServerCheck::Authority(authority, _) => format!("`{}`", authority.name),
        ServerCheck::System(_) => "the system's CA certificates".to_owned(),
        ServerCheck::Unverified | ServerCheck::Nobody(_) => return None,
    };
    Some(match wrong {
        Wrong::UnknownIssuer => format!("the endpoint's certificate is of no authority in {authority}"),
        Wrong::BadSignature => {
            format!("the endpoint's certificate is not signed by the authority of its name in {authority}")
        }
        Wrong::Revoked => format!("the endpoint's certificate is revoked by its authority in {authority}"),
        Wrong::UnknownRevocationStatus => {
            format!(
                "there is no revocation list of the authority of the endpoint's certificate in {authority}"
            )
        }
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            "the endpoint's certificate is not for servers (extended key usage)".to_owned()
        }
        _ if is_of_authority(error) => format!(
            "the endpoint's certificate is itself a CA certificate (or signed by itself) and not among those of \
             {authority}; with a revocation list none such is trusted"
        ),
        Wrong::Other(OtherError(other)) => other.downcast_ref::<Misnamed>()?.to_string(),
        _ => return None,
    })
}

/// The first names, each as far as its beginning tells: a certificate may have very many, and longer ones.
fn listed<'n>(mut names: impl Iterator<Item = (&'n str, &'n str)>) -> String {
    const SHOWN: usize = 4;
    const LONGEST: usize = 128;
    let shown = names.by_ref().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|(name, end)| format!("`{}{end}`", name.chars().take(LONGEST).collect::<String>()))
        .collect();
    match (shown.is_empty(), names.count()) {
        (true, _) => "nobody".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}
