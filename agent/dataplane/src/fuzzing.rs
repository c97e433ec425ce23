//! What the fuzz targets call: readers of what peers send and writers of what is made of it, with what must hold of
//! them.

#[cfg(test)]
mod targets;

use snapshot::{ClientCertDetails, Format};

use crate::{
    access_log, http, inspect, proxy_protocol,
    tls::{ClientCertificate, Hello},
};

/// Reads bytes as every reader of a connection's beginning does.
///
/// # Panics
/// A reader panics, or decides otherwise when more bytes arrive: what was decided has been acted on by then.
pub fn read_opening(bytes: &[u8]) {
    // Halves, and a piece that is cut short: what a network may deliver.
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = &bytes[..end];
        if let Some(decided) = inspect::classify(part) {
            assert_eq!(Some(decided), inspect::classify(bytes), "the protocol");
        }
        match Hello::read(part) {
            Ok(None) => {}
            decided => assert_eq!(decided, Hello::read(bytes), "the client hello"),
        }
        match proxy_protocol::parse(part) {
            Ok(None) => {}
            decided => assert_eq!(decided, proxy_protocol::parse(bytes), "the PROXY header"),
        }
    }
    if let Ok(Some((_, length))) = proxy_protocol::parse(bytes) {
        assert!(length <= bytes.len());
    }
}

/// Reads a certificate as one that a client has shown.
///
/// # Panics
/// A reader panics, or what is made of the certificate could end a header field or a log line.
pub fn read_certificate(der: &[u8]) {
    let own = ["spiffe://td/ns/a/sa/b".to_owned()];
    for all in [false, true] {
        let details = ClientCertDetails { subject: true, cert: all, chain: all, dns: true, uri: true };
        let Some(shown) = ClientCertificate::of(&[der.into()], &own, details) else { return };
        for text in [&shown.element, &shown.subject] {
            assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text:?}");
        }
        assert!(shown.element.starts_with("By=spiffe://td/ns/a/sa/b;Hash="), "{}", shown.element);
    }
}

/// Fills in the values of a format for a request, and writes the request as it goes to an endpoint.
///
/// # Panics
/// What is sent is not one request with the fields that it should have.
pub fn change_heads(format: &str, request: &[u8]) {
    if let Ok(format) = Format::parse(format) {
        http::fuzzing::change_heads(&format, request);
    }
}

/// Access log lines, as text and as JSON, of a request with these bytes in its fields; `None` for what is no format.
pub fn log_lines(format: &str, fields: &[u8]) -> Option<[Vec<u8>; 2]> {
    Some(access_log::fuzzing::lines(Format::parse(format).ok()?, fields))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// What a target begins with.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let files = fs::read_dir(directory).expect("there are seeds");
        files.map(|file| fs::read(file.expect("a file").path()).expect("it can be read")).collect()
    }

    #[test]
    fn beginnings_of_connections_are_understood() {
        let openings = seeds("opening");
        openings.iter().for_each(|bytes| targets::opening::run(bytes));
        let understood = |bytes: &&Vec<u8>| {
            matches!(inspect::classify(bytes), Some(inspect::DetectedProtocol::Http))
                || matches!(Hello::read(bytes), Ok(Some(_)))
                || matches!(proxy_protocol::parse(bytes), Ok(Some((_, 1..))))
        };
        assert_eq!(openings.iter().filter(understood).count(), openings.len());
    }

    #[test]
    fn certificates_are_understood() {
        for der in seeds("certificate") {
            targets::certificate::run(&der);
            assert!(
                ClientCertificate::of(&[der.as_slice().into()], &[], ClientCertDetails::default()).is_some()
            );
        }
    }

    #[test]
    fn what_is_written_for_requests_stays_in_its_place() {
        let fields = b"GET /a HTTP/1.1\r\nhost: a\r\nx-a: \"\x80\\\r\n\r\n";
        targets::header_values::run(("%REQ(x-a)% %REQ(:path)%", fields));
        targets::log_lines::run(("\"%REQ(x-a)%\"", fields));
        assert!(log_lines("\"%REQ(x-a)%\"", fields).is_some_and(|[text, _]| text.ends_with(b"\n")));
        assert!(log_lines("%NO(", fields).is_none());
    }
}
