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
    let key = without_mark(key);
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
        Err(PemError::NoItemsFound) => Err((Part::Key, no_pem("PRIVATE KEY", key))),
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
    let text = without_mark(text);
    match T::pem_slice_iter(text).collect::<Result<Vec<T>, _>>() {
        Ok(items) if !items.is_empty() => Ok(items),
        Ok(_) | Err(PemError::NoItemsFound) => Err(no_pem(label, text)),
        Err(error) => Err(broken_pem(&error)),
    }
}

/// The mark that editors of Windows put before UTF-8 is not part of the text.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn no_pem(label: &str, text: &[u8]) -> Problem {
    let problem = Problem::new(format!("holds no {}{}", label.to_lowercase(), but(text)));
    match remedy(text) {
        Some(remedy) => problem.remedy(remedy),
        None => problem.expected(format!("PEM text with `-----BEGIN {label}-----`")),
    }
}

/// What is there instead, as the label of the first PEM section says it.
fn but(text: &[u8]) -> String {
    let section = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"-----BEGIN "));
    let label = section.and_then(|rest| rest.split(|byte| *byte == b'-').next()).unwrap_or_default();
    let is_label = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    match str::from_utf8(label) {
        Ok(label) if (1..40).contains(&label.len()) && label.bytes().all(|byte| is_label(&byte)) => {
            format!(" but a `{label}`")
        }
        _ => String::new(),
    }
}

/// What to do about a text that holds no PEM, where it can be seen how it came to be so.
fn remedy(text: &[u8]) -> Option<&'static str> {
    let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let blanks = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    Some(match &text[blanks..] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16: save it as UTF-8",
        [0x30, 0x80..=0xff, ..] => {
            "it is DER or PKCS#12: convert it to PEM with `openssl x509`, `openssl pkey` or `openssl pkcs12`"
        }
        // `-----` in base64.
        rest if rest.starts_with(b"LS0tLS") => {
            "it is encoded in base64 once more: store PEM text under `stringData`, or encode it once under `data`"
        }
        _ if has(b"-----BEGIN ") && has(b"\\n") => {
            "it has `\\n` in the place of line breaks: write real ones, in YAML with `|`"
        }
        _ if has(b" -----BEGIN ") || has(b"\t-----BEGIN ") => {
            "its lines are indented: remove the blanks before them"
        }
        _ => return None,
    })
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

    #[test]
    fn what_is_no_pem_is_told_by_how_it_came_to_be_so() {
        let good = key("PRIVATE KEY", "BwgJ");
        let text = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
        let wide: Vec<u8> = "\u{feff}x".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (chain, told) in [
            (wide, "holds no certificate (it is UTF-16: save it as UTF-8)"),
            (vec![0x30, 0x82, 1, 2], "holds no certificate (it is DER or PKCS#12: convert it to PEM"),
            (b"LS0tLS1CRUdJTiBDRVJU".to_vec(), "holds no certificate (it is encoded in base64 once more"),
            (text(CHAIN).replace('\n', "\\n").into_bytes(), "(it has `\\n` in the place of line breaks"),
            (text(CHAIN).replace("\n", "\n  ").into_bytes(), "(its lines are indented: remove the blanks"),
            (
                key("CERTIFICATE REQUEST", "AQID"),
                "holds no certificate but a `CERTIFICATE REQUEST` (expected PEM text with `-----BEGIN CERTIFICATE-----`)",
            ),
            (good.clone(), "holds no certificate but a `PRIVATE KEY` (expected"),
        ] {
            let refused = refused(&chain, &good);
            assert!(refused.contains(told), "{refused}");
        }
        let refused = refused(CHAIN, &key("OPENSSH PRIVATE KEY", "BwgJ"));
        assert!(
            refused.starts_with("private key holds no private key but a `OPENSSH PRIVATE KEY`"),
            "{refused}"
        );
        // What stands in a label is shown only if it looks like one.
        let strange = key("\u{1b}[31m", "BwgJ");
        assert_eq!(but(&strange), "");
    }

    #[test]
    fn line_ends_and_the_mark_of_windows_do_no_harm() {
        let windows = |text: &[u8]| {
            let lines = String::from_utf8(text.to_vec()).unwrap().replace('\n', "\r\n");
            format!("\u{feff}{lines}").into_bytes()
        };
        // `openssl ecparam -genkey` writes the parameters first.
        let keys = [key("EC PARAMETERS", "BgU="), key("EC PRIVATE KEY", "BwgJ")].concat();
        let chain = CHAIN.strip_prefix(b"junk\n").unwrap();
        let made = certificate(&windows(chain), &windows(&keys)).unwrap();
        assert_eq!((made.chain().len(), made.expose_key().secret_der()), (2, &[7, 8, 9][..]));
        assert_eq!(trust_bundle(&windows(chain), None).unwrap().certificates.len(), 2);
    }
}
