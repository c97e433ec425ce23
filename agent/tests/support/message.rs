//! Messages of HTTP/1 as they stand on the wire.

use std::io::{self, Read};

/// A message as it came, without the framing of its body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The first line and the fields.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Message {
    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let word = self.head.split(' ').nth(1).unwrap_or_default();
        word.parse().unwrap_or_else(|_| panic!("no status in {}", self.head))
    }

    /// The first line of a request without its version.
    pub(crate) fn asks_for(&self) -> &str {
        self.head.split(" HTTP/").next().unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// Reads one, unless the connection ends instead.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut message = Self::read_head(stream)?;
        if message.field("transfer-encoding").is_some() {
            message.body = chunks(stream)?;
        } else if let Some(length) = message.field("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body)?;
            message.body = String::from_utf8_lossy(&body).into_owned();
        }
        Ok(message)
    }

    /// Reads one that has no body, whatever it says of it.
    pub(crate) fn read_head(stream: &mut impl Read) -> io::Result<Self> {
        let head = String::from_utf8(until(stream, b"\r\n\r\n")?).unwrap();
        Ok(Self { head: head.trim_end().to_owned(), body: String::new() })
    }
}

fn chunks(stream: &mut impl Read) -> io::Result<String> {
    let mut body = String::new();
    loop {
        let line = String::from_utf8(until(stream, b"\r\n")?).unwrap();
        let mut chunk = vec![0; usize::from_str_radix(line.trim_end(), 16).unwrap() + 2];
        stream.read_exact(&mut chunk)?;
        chunk.truncate(chunk.len() - 2);
        if chunk.is_empty() {
            return Ok(body);
        }
        body += &String::from_utf8_lossy(&chunk);
    }
}

fn until(stream: &mut impl Read, end: &[u8]) -> io::Result<Vec<u8>> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(end) {
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

pub(crate) fn ok(body: &str) -> String {
    answer(200, body)
}

pub(crate) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
