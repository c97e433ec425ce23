//! Certificates of a Gateway server by path, and the fingerprints of those its clients may show.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    finding::Problem,
};

/// A certificate by path (`TLSCertificate`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsCertificate {
    /// Path of the certificate chain, PEM.
    pub server_certificate: Option<String>,
    /// Path of the private key, PEM.
    pub private_key: Option<String>,
    /// Path of the CA certificates.
    pub ca_certificates: Option<String>,
}

impl Shape for TlsCertificate {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            server_certificate: fields.required_elsewhere("serverCertificate"),
            private_key: fields.required_elsewhere("privateKey"),
            ca_certificates: fields.elsewhere("caCertificates"),
        }
    }
}

/// Fingerprints that are none match no certificate, and so shut every client out.
pub(super) fn check_fingerprints(spki: &[String], hash: &[String], at: &Path<'_>, context: &mut Context<'_>) {
    let mut check = |field, list: &[String], is_good: fn(&str) -> bool, expected: &str| {
        let at = at.field(field);
        for (index, text) in list.iter().enumerate().filter(|(_, text)| !is_good(text)) {
            context.error(&at.index(index), Problem::new("is no fingerprint").found(text).expected(expected));
        }
    };
    check("verifyCertificateSpki", spki, is_base64_digest, "the base64 of a SHA-256 digest, 44 characters");
    let expected = "a SHA-256 digest as 64 hexadecimal digits, colons allowed";
    check("verifyCertificateHash", hash, is_hex_digest, expected);
}

const SHA256: usize = 32;

fn is_base64_digest(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == SHA256)
}

fn is_hex_digest(text: &str) -> bool {
    let separated = text.len() == 3 * SHA256 - 1 && text.split(':').all(|byte| byte.len() == 2);
    let digits = text.replace(':', "");
    (separated || !text.contains(':'))
        && digits.len() == 2 * SHA256
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}
