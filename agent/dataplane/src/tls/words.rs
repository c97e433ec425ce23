//! Why a handshake with a client failed, in words of the configuration.

mod endpoints;

use std::io;

use rustls::{AlertDescription as Alert, CertificateError, Error, PeerIncompatible as Incompatible};

pub(super) use self::endpoints::{misnamed, of_endpoint};
use super::{authorities::is_of_authority, first_version};

/// The reason; what rustls says where that is as good.
pub(crate) fn why(error: &io::Error) -> String {
    let known = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    match known {
        Some(Error::AlertReceived(alert)) if is_distrust(*alert) => {
            format!("{error}: the client does not trust the certificate of this server")
        }
        _ => known.and_then(in_words).map_or_else(|| error.to_string(), str::to_owned),
    }
}

fn in_words(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NoCertificatesPresented => "the client shows no certificate, and one is required",
        error if first_version::is_cause(error) => {
            "the client's certificate is of X.509 version 1, of which only those are verified that an authority has \
             issued itself and keeps no revocation list of: issue it with extensions (version 3)"
        }
        error if is_of_authority(error) => {
            "the client's certificate is itself a CA certificate (or signed by itself) and not among the CA certificates \
             that are trusted here; with a revocation list none such is trusted"
        }
        Error::InvalidCertificate(wrong) => return certificate(wrong),
        Error::PeerIncompatible(why) => match why {
            Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled
            | Incompatible::SupportedVersionsExtensionRequired
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig => {
                "the client speaks no TLS version that this server speaks"
            }
            Incompatible::NoCipherSuitesInCommon => {
                "the client offers no cipher suite that this server has for its certificate"
            }
            Incompatible::NoKxGroupsInCommon => "the client offers no curve that this server has",
            Incompatible::NoSignatureSchemesInCommon => {
                "the client cannot verify signatures of the kind of key that this server has"
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn is_distrust(alert: Alert) -> bool {
    matches!(
        alert,
        Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired
    )
}

fn certificate(wrong: &CertificateError) -> Option<&'static str> {
    Some(match wrong {
        CertificateError::ApplicationVerificationFailure => {
            "the client's certificate has no name or digest that is asked for"
        }
        CertificateError::UnknownIssuer => "the client's certificate is of no authority that is trusted here",
        CertificateError::BadSignature => {
            "the client's certificate is not signed by the authority that it names"
        }
        CertificateError::Revoked => "the client's certificate is revoked",
        CertificateError::UnknownRevocationStatus => {
            "there is no revocation list of the authority of the client's certificate"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the client's certificate is not for clients (extended key usage)"
        }
        _ => return None,
    })
}
