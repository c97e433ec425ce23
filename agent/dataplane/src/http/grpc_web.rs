//! gRPC-Web, which browsers speak: gRPC whose trailers are the last frame of the body, in bytes or as base64
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).

use ::http::HeaderMap;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http1::BodyLength;
use snapshot::RequestHead;

/// The forms of a gRPC-Web client's bodies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct GrpcWeb {
    /// Whether the request's body is base64.
    pub(super) asks_in_text: bool,
    /// Whether the answer's body is to be.
    answer_in_text: bool,
}

impl GrpcWeb {
    /// The forms that a request speaks of, if it is one of gRPC-Web.
    pub(super) fn of(request: &impl RequestHead) -> Option<Self> {
        let asks_in_text = is_text(request.header("content-type")?)?;
        let answer_in_text = request.header("accept").and_then(is_text).unwrap_or_default();
        Some(Self { asks_in_text, answer_in_text })
    }

    /// How a request's body goes up, of which the length changes.
    pub(super) fn request_body(self, body: BodyLength) -> BodyLength {
        if self.asks_in_text && !body.is_empty() { BodyLength::Chunked } else { body }
    }

    /// How an answer's body goes down: with the trailers it is longer than the endpoint says.
    pub(super) fn answer_body(self, body: BodyLength) -> BodyLength {
        match body {
            BodyLength::Length(1..) => BodyLength::Chunked,
            other => other,
        }
    }

    /// The content type of answers.
    pub(super) fn content_type(self) -> &'static [u8] {
        if self.answer_in_text { b"application/grpc-web-text+proto" } else { b"application/grpc-web+proto" }
    }

    /// A piece of an answer as the client gets it.
    pub(super) fn encoded(self, data: Bytes) -> Bytes {
        if self.answer_in_text { BASE64_STANDARD.encode(&data).into() } else { data }
    }

    /// The frame that stands for trailers, as the client gets it.
    pub(super) fn trailers(self, trailers: &HeaderMap) -> Bytes {
        const TRAILERS: u8 = 0x80;
        let mut lines = Vec::new();
        for (name, value) in trailers {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.extend_from_slice(b"\r\n");
        }
        // The codec bounds trailers to less than heads may have.
        let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let frame = [&[TRAILERS][..], &length.to_be_bytes(), &lines].concat();
        self.encoded(frame.into())
    }
}

/// Whether a content type of gRPC-Web is that of text; `None` when it is another protocol's.
fn is_text(content_type: &[u8]) -> Option<bool> {
    let form = content_type.strip_prefix(b"application/grpc-web")?;
    let (is_text, format) = match form.strip_prefix(b"-text") {
        Some(format) => (true, format),
        None => (false, form),
    };
    format.first().is_none_or(|next| matches!(next, b'+' | b';' | b',' | b' ')).then_some(is_text)
}

/// Undoes base64 that comes in pieces. Clients encode each message by itself, so padding may stand anywhere.
#[derive(Debug, Default)]
pub(super) struct Unbase64 {
    /// The beginning of a group of four.
    rest: Vec<u8>,
}

/// Says that a body is no base64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NotBase64;

impl Unbase64 {
    /// What a piece makes whole.
    ///
    /// # Errors
    /// It is not base64.
    fn decode(&mut self, piece: &[u8]) -> Result<Vec<u8>, NotBase64> {
        const GROUP: usize = 4;
        self.rest.extend_from_slice(piece);
        let whole = self.rest.len() - self.rest.len() % GROUP;
        let mut decoded = Vec::with_capacity(whole / GROUP * 3);
        let mut text = &self.rest[..whole];
        while !text.is_empty() {
            let padding = text.iter().position(|byte| *byte == b'=');
            let end = padding.map_or(text.len(), |at| (at / GROUP + 1) * GROUP);
            BASE64_STANDARD.decode_vec(&text[..end], &mut decoded).map_err(|_| NotBase64)?;
            text = &text[end..];
        }
        self.rest.drain(..whole);
        Ok(decoded)
    }

    /// As [`Self::decode`] for a piece that may be the last one, after which nothing may be missing.
    pub(super) fn decode_last_if(&mut self, is_last: bool, piece: &[u8]) -> Result<Bytes, NotBase64> {
        let decoded = self.decode(piece)?;
        if is_last && !self.is_whole() { Err(NotBase64) } else { Ok(decoded.into()) }
    }

    /// Whether nothing of a group is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_tell_the_form() {
        assert_eq!(is_text(b"application/grpc-web"), Some(false));
        assert_eq!(is_text(b"application/grpc-web+proto"), Some(false));
        assert_eq!(is_text(b"application/grpc-web-text+proto"), Some(true));
        assert_eq!(is_text(b"application/grpc"), None);
        assert_eq!(is_text(b"application/grpc-webby"), None);
    }

    #[test]
    fn base64_may_be_cut_and_padded_anywhere() {
        let text = [BASE64_STANDARD.encode("a"), BASE64_STANDARD.encode("bcd"), BASE64_STANDARD.encode("ef")];
        let text = text.concat();
        for cut in 0..=text.len() {
            let mut unbase64 = Unbase64::default();
            let (first, second) = text.as_bytes().split_at(cut);
            let first = unbase64.decode_last_if(false, first).unwrap();
            let second = unbase64.decode_last_if(true, second).unwrap();
            assert_eq!([first, second].concat(), b"abcdef", "cut at {cut}");
        }
        let mut cut_off = Unbase64::default();
        assert_eq!(cut_off.decode_last_if(true, b"YQ"), Err(NotBase64));
        for wrong in ["a=bc", "====", "a\0bc", "YQ=a"] {
            assert_eq!(Unbase64::default().decode(wrong.as_bytes()), Err(NotBase64), "{wrong}");
        }
    }

    #[test]
    fn trailers_are_a_frame_of_their_own() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let mut web = GrpcWeb { asks_in_text: false, answer_in_text: false };
        assert_eq!(web.trailers(&trailers), &b"\x80\0\0\0\x0fgrpc-status:0\r\n"[..]);
        web.answer_in_text = true;
        assert_eq!(web.trailers(&trailers), BASE64_STANDARD.encode(b"\x80\0\0\0\x0fgrpc-status:0\r\n"));
    }
}
