//! What a certificate says of itself (RFC 5280).

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
    x509::X509Name,
};

use super::Validity;

/// What a certificate says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFacts {
    /// Distinguished name as in RFC 4514, the most specific part first.
    pub subject: String,
    /// Distinguished name of who has signed it.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    /// Seconds since 1970 from which it is good.
    pub not_before: i64,
    /// Seconds since 1970 until which it is good.
    pub not_after: i64,
    /// In the order of the certificate.
    pub names: Vec<AlternativeName>,
    /// Its SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

/// Says that bytes are no certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct X509Error;

impl fmt::Display for X509Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("certificate is not valid X.509")
    }
}

impl std::error::Error for X509Error {}

/// An alternative name of the subject, as text.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the kinds are those of RFC 5280 §4.2.1.6")]
pub enum AlternativeName {
    Dns(String),
    Uri(String),
    Email(String),
    Ip(String),
}

impl AlternativeName {
    /// The name without its kind.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) | Self::Uri(name) | Self::Email(name) | Self::Ip(name) => name,
        }
    }

    fn of(name: &GeneralName<'_>) -> Option<Self> {
        Some(match name {
            GeneralName::DNSName(name) => Self::Dns((*name).to_owned()),
            GeneralName::URI(uri) => Self::Uri((*uri).to_owned()),
            GeneralName::RFC822Name(name) => Self::Email((*name).to_owned()),
            GeneralName::IPAddress(bytes) => Self::Ip(address(bytes)?.to_string()),
            _ => return None,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is none.
    pub fn of(der: &[u8]) -> Result<Self, X509Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| X509Error)?;
        let names = certificate.subject_alternative_name().map_err(|_| X509Error)?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(Self {
            subject: distinguished_name(certificate.subject()),
            issuer: distinguished_name(certificate.issuer()),
            serial: certificate.serial.to_str_radix(16),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            names: names.filter_map(AlternativeName::of).collect(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// The serial number in whole bytes, as OpenSSL and Envoy write it.
    pub fn serial_bytes(&self) -> String {
        let odd = if self.serial.len().is_multiple_of(2) { "" } else { "0" };
        format!("{odd}{}", self.serial)
    }

    /// What its dates mean at a time, in seconds since 1970.
    pub fn validity(&self, now: i64) -> Validity {
        Validity::at(self.not_before, self.not_after, now)
    }

    /// When it begins to be good: `2026-01-02T03:04:05Z`.
    pub fn beginning(&self) -> String {
        time(self.not_before)
    }

    /// When it stops being good, as text.
    pub fn expiry(&self) -> String {
        time(self.not_after)
    }

    /// The SPIFFE identity that the certificate is for.
    pub fn spiffe_id(&self) -> Option<&str> {
        self.names.iter().find_map(|name| match name {
            AlternativeName::Uri(uri) if uri.starts_with("spiffe://") => Some(uri.as_str()),
            _ => None,
        })
    }

    /// The part of a certificate that holds its public key (SubjectPublicKeyInfo, DER).
    ///
    /// # Errors
    /// It is no certificate.
    pub fn public_key(der: &[u8]) -> Result<&[u8], X509Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| X509Error)?;
        Ok(certificate.tbs_certificate.subject_pki.raw)
    }
}

/// `2026-01-02T03:04:05Z`; times before 1970 are taken for its beginning.
fn time(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // Certificates may claim to be good for ever, but not longer than the year 9999.
    let latest = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since.min(latest)).to_string()
}

fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts = Vec::new();
    for attribute in name.iter_rdn().flat_map(|rdn| rdn.iter()) {
        let name = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.3" => "CN".to_owned(),
            "2.5.4.6" => "C".to_owned(),
            "2.5.4.7" => "L".to_owned(),
            "2.5.4.8" => "ST".to_owned(),
            "2.5.4.10" => "O".to_owned(),
            "2.5.4.11" => "OU".to_owned(),
            "0.9.2342.19200300.100.1.25" => "DC".to_owned(),
            "0.9.2342.19200300.100.1.1" => "UID".to_owned(),
            "1.2.840.113549.1.9.1" => "emailAddress".to_owned(),
            other => other.to_owned(),
        };
        parts.push(format!("{name}={}", escaped(attribute.as_str().unwrap_or_default())));
    }
    parts.reverse();
    parts.join(",")
}

/// RFC 4514 §2.4. What is not printable ASCII is escaped, too: names go into logs and headers.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        let edge = at == 0 || at + 1 == value.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if edge => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn certificate() -> rcgen::Certificate {
        let mut params = CertificateParams::new(["a.com".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()));
        params.subject_alt_names.push(SanType::Rfc822Name("me@a.com".try_into().unwrap()));
        params.distinguished_name.push(DnType::OrganizationName, "Ac,me \"#1\"");
        params.distinguished_name.push(DnType::CommonName, "a.com");
        params.serial_number = Some(SerialNumber::from(vec![0x1a, 0x2b]));
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2024, 1, 2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_tells_names_serial_and_dates() {
        let facts = CertificateFacts::of(certificate().der()).unwrap();
        let names: Vec<&str> = facts.names.iter().map(AlternativeName::as_str).collect();
        assert_eq!(names, ["a.com", "10.0.0.1", "spiffe://td/ns/a/sa/b", "me@a.com"]);
        assert_eq!(facts.spiffe_id(), Some("spiffe://td/ns/a/sa/b"));
        assert_eq!(
            (facts.serial.as_str(), facts.not_before, facts.not_after),
            ("1a2b", 1_704_067_200, 1_704_153_600)
        );
        assert!(facts.subject.contains("O=Ac\\,me \\\"#1\\\""), "{}", facts.subject);
        assert!(facts.subject.contains("CN=a.com"), "{}", facts.subject);
        assert_eq!(facts.issuer, facts.subject);
    }

    #[test]
    fn noise_is_no_certificate() {
        assert_eq!(CertificateFacts::of(b"noise"), Err(X509Error));
        let good = certificate().der().to_vec();
        for cut in 0..good.len() {
            assert!(CertificateFacts::of(&good[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn names_in_headers_and_logs_hold_no_control_characters() {
        assert_eq!(escaped(" a;b\n\u{e9} "), "\\ a\\;b\\0A\\C3\\A9\\ ");
    }
}
