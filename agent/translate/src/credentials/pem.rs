//! Certificates, keys and revocation lists out of PEM text.

use resources::Problem;
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject},
};
use snapshot::{Certificate, TrustBundle};

/// What a text is read for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Chain,
    Key,
    Authority,
    Revocations,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chain => "certificate",
            Self::Key => "private key",
            Self::Authority => "CA certificate",
            Self::Revocations => "revocation list",
        }
    }
}

/// What is wrong with which part.
pub(super) type Broken = (Part, Problem);

pub(super) fn certificate(chain: &[u8], key: &[u8]) -> Result<Certificate, Broken> {
    let chain =
        all::<CertificateDer<'static>>(chain, "CERTIFICATE").map_err(|problem| (Part::Chain, problem))?;
    if key.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        let problem = Problem::new("is encrypted, and nobody is there to give the password");
        return Err((
            Part::Key,
            problem.remedy("store it decrypted: `openssl pkey -in key.pem -out plain.pem`"),
        ));
    }
    match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => Ok(Certificate::new(chain, key)),
        Err(PemError::NoItemsFound) => Err((Part::Key, no_pem("PRIVATE KEY"))),
        Err(error) => Err((Part::Key, broken_pem(&error))),
    }
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

pub(super) fn trust_bundle(certificates: &[u8], revocations: Option<&[u8]>) -> Result<TrustBundle, Broken> {
    let certificates = all::<CertificateDer<'static>>(certificates, "CERTIFICATE")
        .map_err(|problem| (Part::Authority, problem))?;
    let revocations = match revocations {
        Some(text) => all::<CertificateRevocationListDer<'static>>(text, "X509 CRL")
            .map_err(|problem| (Part::Revocations, problem))?,
        None => Vec::new(),
    };
    Ok(TrustBundle { certificates: certificates.into(), revocations: revocations.into() })
}

/// Everything of a kind that is in a text; whatever else is between goes unread.
fn all<T: PemObject>(text: &[u8], label: &str) -> Result<Vec<T>, Problem> {
    match T::pem_slice_iter(text).collect::<Result<Vec<T>, _>>() {
        Ok(items) if !items.is_empty() => Ok(items),
        Ok(_) | Err(PemError::NoItemsFound) => Err(no_pem(label)),
        Err(error) => Err(broken_pem(&error)),
    }
}

fn no_pem(label: &str) -> Problem {
    Problem::new(format!("holds no {}", label.to_lowercase()))
        .expected(format!("PEM text with `-----BEGIN {label}-----`"))
}

/// The parser's own words may quote a line of the key.
fn broken_pem(error: &PemError) -> Problem {
    let what = match error {
        PemError::MissingSectionEnd { .. } => "ends in the middle of a PEM section",
        PemError::Base64Decode(_) => "is not base64 between its PEM lines",
        _ => "is not PEM",
    };
    Problem::new(what).expected("PEM text, whole and unchanged")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &[u8] = b"junk\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n\
                           -----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----\n";

    fn key(label: &str, text: &str) -> Vec<u8> {
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
    }

    fn refused(chain: &[u8], key: &[u8]) -> String {
        let (part, problem) = certificate(chain, key).unwrap_err();
        format!("{} {problem}", part.name())
    }

    #[test]
    fn every_form_of_key_and_a_chain_with_text_around_it_are_read() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let made = certificate(CHAIN, &key(label, "BwgJ")).unwrap();
            assert_eq!(made.chain().len(), 2);
            assert_eq!(made.expose_key().secret_der(), [7, 8, 9]);
        }
        // A file with both is as good for either.
        let both = [CHAIN, &key("PRIVATE KEY", "BwgJ")].concat();
        assert!(certificate(&both, &both).is_ok());
    }

    #[test]
    fn what_is_broken_is_named_and_not_shown() {
        let good = key("PRIVATE KEY", "BwgJ");
        assert!(refused(b"", &good).starts_with("certificate holds no certificate (expected PEM"));
        assert!(refused(&good, &good).starts_with("certificate holds no certificate"));
        assert!(refused(CHAIN, CHAIN).starts_with("private key holds no private key"));
        assert_eq!(
            refused(CHAIN, &key("PRIVATE KEY", "top!secret")),
            "private key is not base64 between its PEM lines (expected PEM text, whole and unchanged)"
        );
        assert_eq!(
            refused(CHAIN, &good[..40]),
            "private key ends in the middle of a PEM section (expected PEM text, whole and unchanged)"
        );
        for encrypted in
            [key("ENCRYPTED PRIVATE KEY", "BwgJ"), key("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nBwgJ")]
        {
            assert!(refused(CHAIN, &encrypted).starts_with("private key is encrypted"));
        }
    }
}
