//! As much HTTP/1.1 as an honest peer needs, written apart from the product's codec so that neither hides the
//! other's mistakes. Bounded, blocking, without leniency.

use std::io::{BufRead, Read};

use anyhow::{Context, Result, bail, ensure};

/// A message as it came: first line, header fields in order, body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) first_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The first value of a header field, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What ends a body that announces no length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unannounced {
    /// There is none: a request, or an answer that has no body by its status.
    Empty,
    /// The end of the connection: an answer.
    UntilClose,
}

/// Reads one message; `None` when the peer closed before its first byte.
pub(crate) fn read_message(stream: &mut impl BufRead, unannounced: Unannounced) -> Result<Option<Message>> {
    let Some(first_line) = read_line(stream)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?.context("closed within the header")?;
        if line.is_empty() {
            break;
        }
        ensure!(headers.len() < MAX_HEADERS, "more than {MAX_HEADERS} header fields");
        let (name, value) =
            line.split_once(':').with_context(|| format!("header line without colon: {line}"))?;
        headers.push((name.to_string(), value.trim().to_string()));
    }
    let mut message = Message { first_line, headers, body: Vec::new() };
    message.body = read_body(stream, &message, unannounced)?;
    Ok(Some(message))
}

fn read_body(stream: &mut impl BufRead, message: &Message, unannounced: Unannounced) -> Result<Vec<u8>> {
    if let Some(coding) = message.header("transfer-encoding") {
        ensure!(coding.eq_ignore_ascii_case("chunked"), "transfer coding `{coding}`");
        return read_chunks(stream);
    }
    let mut body = Vec::new();
    match message.header("content-length") {
        Some(length) => {
            let length: u64 = length.parse().with_context(|| format!("content-length `{length}`"))?;
            ensure!(length <= MAX_BODY, "a body of {length} bytes");
            stream.take(length).read_to_end(&mut body)?;
            ensure!(body.len() as u64 == length, "closed after {} of {length} body bytes", body.len());
        }
        None if unannounced == Unannounced::UntilClose => {
            stream.take(MAX_BODY).read_to_end(&mut body)?;
        }
        None => {}
    }
    Ok(body)
}

fn read_chunks(stream: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(stream)?.context("closed before a chunk")?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).with_context(|| format!("chunk size `{size}`"))?;
        ensure!(body.len() as u64 + size <= MAX_BODY, "a chunked body over {MAX_BODY} bytes");
        if size == 0 {
            while !read_line(stream)?.context("closed within the trailer")?.is_empty() {}
            return Ok(body);
        }
        let before = body.len() as u64;
        stream.take(size).read_to_end(&mut body)?;
        ensure!(body.len() as u64 == before + size, "closed within a chunk");
        ensure!(read_line(stream)?.as_deref() == Some(""), "no line end after a chunk");
    }
}

fn read_line(stream: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = Vec::new();
    if stream.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(Some(String::from_utf8(text.to_vec()).context("a line that is not UTF-8")?)),
        None => bail!("a line without CR LF: {:?}", String::from_utf8_lossy(&line)),
    }
}

const MAX_LINE: u64 = 64 * 1024;
const MAX_HEADERS: usize = 200;
const MAX_BODY: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, unannounced: Unannounced) -> Result<Option<Message>> {
        read_message(&mut text.as_bytes(), unannounced)
    }

    #[test]
    fn bodies_come_by_length_by_chunks_or_until_close() {
        let body = |text| read(text, Unannounced::UntilClose).unwrap().unwrap().body;
        assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokay"), b"ok");
        assert_eq!(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), b"ok");
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nokay"), b"okay");
    }

    #[test]
    fn a_truncated_body_is_an_error() {
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Unannounced::UntilClose).is_err());
        assert!(
            read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nok", Unannounced::UntilClose)
                .is_err()
        );
    }

    #[test]
    fn a_peer_that_closes_at_once_sent_no_message() {
        assert!(read("", Unannounced::Empty).unwrap().is_none());
    }
}
