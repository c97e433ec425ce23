//! What becomes of `x-forwarded-client-cert`.

use std::rc::Rc;

use snapshot::{ForwardClientCert, RequestHead};

use super::added::{FORWARDED_CLIENT_CERT, write_values};
use crate::tls::ClientCertificate;

/// What becomes of `x-forwarded-client-cert`.
pub(super) enum CertificateField {
    Kept,
    Removed,
    /// What the client has shown takes the place of what it says.
    Replaced(Rc<ClientCertificate>),
    /// What the client has shown follows what it says.
    Appended(Rc<ClientCertificate>),
}

impl CertificateField {
    /// As Envoy: what a client says counts only when it has shown a certificate itself.
    pub(super) fn new(forward: ForwardClientCert, shown: Option<&Rc<ClientCertificate>>) -> Self {
        match (forward, shown.cloned()) {
            (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {
                Self::Kept
            }
            (ForwardClientCert::SanitizeSet, Some(shown)) => Self::Replaced(shown),
            (ForwardClientCert::AppendForward, Some(shown)) => Self::Appended(shown),
            (ForwardClientCert::Sanitize, _) | (_, None) => Self::Removed,
        }
    }

    /// Writes the field as it goes upstream, if it is this proxy's.
    pub(super) fn write(&self, out: &mut Vec<u8>, request: &(impl RequestHead + ?Sized)) {
        match self {
            Self::Kept | Self::Removed => {}
            Self::Replaced(shown) => out.extend_from_slice(shown.element.as_bytes()),
            Self::Appended(shown) => {
                write_values(out, FORWARDED_CLIENT_CERT, request);
                out.extend_from_slice(shown.element.as_bytes());
            }
        }
    }
}
