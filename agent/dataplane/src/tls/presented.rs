//! Certificates as access logs show them.

use std::{
    cell::OnceCell,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls::pki_types::CertificateDer;
use snapshot::{AlternativeName, CertificateFacts, CertificatePart};

use super::peer::encoded_pem;
use crate::strftime;

/// A certificate that one side has shown. It is looked into once, when the first line shows something of it.
#[derive(Debug)]
pub(crate) struct PresentedCertificate {
    certificate: CertificateDer<'static>,
    facts: OnceCell<Option<Arc<CertificateFacts>>>,
}

/// The certificates of both sides of a connection.
#[derive(Debug, Default)]
pub(crate) struct PresentedCertificates {
    pub(crate) peer: Option<PresentedCertificate>,
    pub(crate) own: Option<PresentedCertificate>,
}

impl PresentedCertificate {
    pub(super) fn new(certificate: &CertificateDer<'_>) -> Self {
        Self { certificate: certificate.clone().into_owned(), facts: OnceCell::new() }
    }

    /// Writes a part as Envoy does, or nothing when the certificate has none. Names are as the certificate has them:
    /// any bytes.
    pub(crate) fn write(&self, part: &CertificatePart, out: &mut Vec<u8>) {
        let facts = || {
            let facts = self.facts.get_or_init(|| CertificateFacts::of(&self.certificate).ok().map(Arc::new));
            facts.as_deref()
        };
        match part {
            CertificatePart::Fingerprint1 => {
                write_digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.certificate, out);
            }
            CertificatePart::Fingerprint256 => write_digest(&SHA256, &self.certificate, out),
            CertificatePart::Pem => out.extend_from_slice(encoded_pem(&self.certificate).as_bytes()),
            CertificatePart::Subject => out.extend(facts().iter().flat_map(|facts| facts.subject.bytes())),
            CertificatePart::Issuer => out.extend(facts().iter().flat_map(|facts| facts.issuer.bytes())),
            CertificatePart::Serial => {
                out.extend(facts().iter().flat_map(|facts| facts.serial_bytes().into_bytes()));
            }
            CertificatePart::Beginning(format) => {
                write_time(facts().map(|facts| facts.not_before), format, out);
            }
            CertificatePart::End(format) => write_time(facts().map(|facts| facts.not_after), format, out),
            CertificatePart::Uris
            | CertificatePart::Hosts
            | CertificatePart::Addresses
            | CertificatePart::Emails => write_names(facts(), part, out),
        }
    }
}

fn write_digest(algorithm: &'static Algorithm, bytes: &[u8], out: &mut Vec<u8>) {
    let mut hexadecimal = String::new();
    for byte in digest(algorithm, bytes).as_ref() {
        // Writing into memory cannot fail.
        _ = write!(hexadecimal, "{byte:02x}");
    }
    out.extend_from_slice(hexadecimal.as_bytes());
}

/// Times before 1970 are taken for its beginning.
fn write_time(seconds: Option<i64>, format: &Option<String>, out: &mut Vec<u8>) {
    let since = seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
    let time = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
    out.extend(time.iter().flat_map(|time| strftime::format(format.as_deref(), *time)));
}

fn write_names(facts: Option<&CertificateFacts>, part: &CertificatePart, out: &mut Vec<u8>) {
    let is_wanted = |name: &&AlternativeName| {
        matches!(
            (part, name),
            (CertificatePart::Uris, AlternativeName::Uri(_))
                | (CertificatePart::Hosts, AlternativeName::Dns(_))
                | (CertificatePart::Addresses, AlternativeName::Ip(_))
                | (CertificatePart::Emails, AlternativeName::Email(_))
        )
    };
    let names = facts.iter().flat_map(|facts| &facts.names).filter(is_wanted);
    for (index, name) in names.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_str().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    #[test]
    fn parts_are_written_as_envoy_does() {
        let mut params = CertificateParams::new(["a.com".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        for uri in ["spiffe://td/ns/a/sa/b", "spiffe://td/second"] {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        params.subject_alt_names.push(SanType::Rfc822Name("me@a.com".try_into().unwrap()));
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0x2b]));
        params.not_before = date_time_ymd(2024, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let shown = PresentedCertificate::new(certificate.der());
        let told = |part| {
            let mut out = Vec::new();
            shown.write(&part, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (part, expected) in [
            (CertificatePart::Uris, "spiffe://td/ns/a/sa/b,spiffe://td/second"),
            (CertificatePart::Hosts, "a.com"),
            (CertificatePart::Addresses, "10.0.0.1"),
            (CertificatePart::Emails, "me@a.com"),
            (CertificatePart::Serial, "0a2b"),
            (CertificatePart::Beginning(None), "2024-01-01T00:00:00.000Z"),
            (CertificatePart::Beginning(Some("%Y".to_owned())), "2024"),
        ] {
            assert_eq!(told(part.clone()), expected, "{part:?}");
        }
        assert_eq!(
            (told(CertificatePart::Fingerprint1).len(), told(CertificatePart::Fingerprint256).len()),
            (40, 64)
        );
        assert!(told(CertificatePart::Pem).starts_with("-----BEGIN%20CERTIFICATE-----%0A"));
        assert_eq!(told(CertificatePart::Issuer), told(CertificatePart::Subject));
    }
}
