//! What must hold for any bytes: no panic, no dependence on how reads split the input, and what is written is read back.

use http1::{
    BodyDecoder, BodyError, BodyLength, HeadEnd, HeaderSlots, Limits, parse_request, parse_response,
    write_chunk, write_framing, write_header, write_last_chunk, write_request_line, write_status_line,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a head says, owned and comparable.
type Summary = String;

fn request_summary(buf: &[u8]) -> Result<Option<Summary>, String> {
    let mut slots = HeaderSlots::new();
    let parsed =
        parse_request(buf, &LIMITS, &mut slots).map_err(|error| format!("{error}, {}", error.status()))?;
    Ok(parsed.map(|request| format!("{request:?} {:?}", http1::connection_names(request.headers))))
}

fn response_summary(buf: &[u8]) -> Result<Option<Summary>, String> {
    let mut slots = HeaderSlots::new();
    let parsed = parse_response(buf, &LIMITS, "GET", &mut slots).map_err(|error| error.to_string())?;
    Ok(parsed.map(|response| format!("{response:?}")))
}

/// Feeds growing prefixes of `bytes`, cut after each of `cuts`, as a connection does, until there is a verdict.
fn read_in_pieces(
    bytes: &[u8],
    cuts: &[usize],
    parse: impl Fn(&[u8]) -> Result<Option<Summary>, String>,
) -> Result<Option<Summary>, String> {
    let mut end = HeadEnd::default();
    let mut len = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        len = (len + cut).min(bytes.len());
        if end.find(&bytes[..len], &LIMITS) {
            match parse(&bytes[..len]) {
                Ok(None) => {}
                verdict => return verdict,
            }
        }
    }
    Ok(None)
}

/// A verdict on a prefix must be the verdict on the whole; errors may differ in what they saw first.
fn assert_same_verdict(pieces: Result<Option<Summary>, String>, whole: Result<Option<Summary>, String>) {
    match (pieces, whole) {
        (Err(_), Err(_)) => {}
        (pieces, whole) => assert_eq!(pieces, whole),
    }
}

/// Like [`assert_same_verdict`], but an error that shows before the head ends may be noticed later.
fn assert_never_missed(pieces: Result<Option<Summary>, String>, whole: Result<Option<Summary>, String>) {
    if !matches!((&pieces, &whole), (Ok(None), Err(_))) {
        assert_same_verdict(pieces, whole);
    }
}

/// Decodes all of `input` in the given pieces: the data, and how the body ended.
fn decode(length: BodyLength, input: &[u8], cuts: &[usize]) -> (Vec<u8>, Result<usize, BodyError>) {
    let mut decoder = BodyDecoder::new(length);
    let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
    for cut in cuts.iter().copied().chain([input.len()]) {
        end = (end + cut).min(input.len());
        while at < end && !decoder.is_done() {
            let piece = &input[at..end];
            let decoded = match decoder.decode(piece) {
                Ok(decoded) => decoded,
                Err(error) => return (data, Err(error)),
            };
            assert!(
                decoded.consumed > 0
                    && decoded.consumed <= piece.len()
                    && decoded.data.end <= decoded.consumed
            );
            data.extend_from_slice(&piece[decoded.data]);
            at += decoded.consumed;
        }
    }
    (data, decoder.end_of_input().map(|()| at))
}

/// Bytes that look enough like HTTP to get past the first line.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(WORDS);
    let piece = prop_oneof![
        8 => word.prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,20}"
}

/// Fields that mean nothing to the codec, so that a message holds what was written and no more.
fn plain_fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let value = "[!-~\u{e9}]([ -~\t\u{e9}]{0,40}[!-~])?".prop_map(String::into_bytes);
    vec((token().prop_map(|name| format!("x-{name}")), prop_oneof![value, Just(Vec::new())]), 0..20)
}

fn body_length() -> impl Strategy<Value = BodyLength> {
    prop_oneof![Just(BodyLength::Chunked), Just(BodyLength::Empty), any::<u64>().prop_map(BodyLength::Length)]
}

proptest! {
    // A failure prints its smallest input, which then becomes a test of its own; no file of seeds is kept.
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(buf in vec(any::<u8>(), 0..300)) {
        let _ = request_summary(&buf);
        let _ = response_summary(&buf);
        let _ = decode(BodyLength::Chunked, &buf, &[]);
    }

    #[test]
    fn requests_read_in_pieces_get_the_verdict_of_the_whole(buf in nearly_http(), cuts in vec(1usize..30, 0..20)) {
        assert_never_missed(read_in_pieces(&buf, &cuts, request_summary), request_summary(&buf));
    }

    #[test]
    fn responses_read_in_pieces_get_the_verdict_of_the_whole(buf in nearly_http(), cuts in vec(1usize..30, 0..20)) {
        let buf = [b"HTTP/1.1 200 OK\r\n", buf.as_slice()].concat();
        assert_never_missed(read_in_pieces(&buf, &cuts, response_summary), response_summary(&buf));
    }

    #[test]
    fn verdict_on_a_prefix_is_the_verdict_on_the_whole(buf in nearly_http(), cut in 0usize..200) {
        let prefix = &buf[..cut.min(buf.len())];
        match request_summary(prefix) {
            Ok(None) => {}
            verdict => assert_same_verdict(verdict, request_summary(&buf)),
        }
    }

    #[test]
    fn bodies_decode_alike_however_they_are_split(
        chunks in vec(vec(any::<u8>(), 0..40), 0..10),
        noise in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in vec(1usize..20, 0..40),
    ) {
        let mut input = Vec::new();
        chunks.iter().for_each(|chunk| write_chunk(&mut input, chunk));
        write_last_chunk(&mut input);
        if let Some((index, byte)) = noise {
            let at = index.index(input.len());
            input[at] = byte;
        }
        for length in [BodyLength::Chunked, BodyLength::Length(50), BodyLength::UntilClose] {
            prop_assert_eq!(decode(length, &input, &cuts), decode(length, &input, &[]));
        }
    }

    #[test]
    fn chunks_written_are_chunks_read(chunks in vec(vec(any::<u8>(), 0..40), 0..10), rest in vec(any::<u8>(), 0..9)) {
        let mut input = Vec::new();
        chunks.iter().for_each(|chunk| write_chunk(&mut input, chunk));
        write_last_chunk(&mut input);
        let end = input.len();
        input.extend_from_slice(&rest);
        prop_assert_eq!(decode(BodyLength::Chunked, &input, &[]), (chunks.concat(), Ok(end)));
    }

    #[test]
    fn requests_written_are_requests_read(
        method in token().prop_filter("has another target", |method| method != "CONNECT"),
        path in "/[a-zA-Z0-9/._~%!$&'()*+,;=:@?-]{0,60}",
        fields in plain_fields(),
        body in body_length(),
    ) {
        let mut head = Vec::new();
        write_request_line(&mut head, &method, &path);
        write_header(&mut head, b"Host", b"a.example:80");
        fields.iter().for_each(|(name, value)| write_header(&mut head, name.as_bytes(), value));
        write_framing(&mut head, body);
        head.extend_from_slice(b"\r\n");
        let mut slots = HeaderSlots::new();
        let request = parse_request(&head, &Limits::default(), &mut slots).unwrap().unwrap();
        prop_assert_eq!((request.method, request.target.path_and_query()), (method.as_str(), path.as_str()));
        prop_assert_eq!((request.body, request.head_len), (body, head.len()));
        prop_assert_eq!(request.authority(), Some("a.example:80"));
        let read = request.headers[1..].iter().map(|header| (header.name, header.value));
        prop_assert!(read.take(fields.len()).eq(fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))));
    }

    #[test]
    fn responses_written_are_responses_read(status in 200u16..1000, fields in plain_fields(), body in body_length()) {
        prop_assume!(status != 204 && status != 304);
        let mut head = Vec::new();
        write_status_line(&mut head, status);
        fields.iter().for_each(|(name, value)| write_header(&mut head, name.as_bytes(), value));
        write_framing(&mut head, body);
        head.extend_from_slice(b"\r\n");
        let mut slots = HeaderSlots::new();
        let response = parse_response(&head, &Limits::default(), "GET", &mut slots).unwrap().unwrap();
        let read_body = if body == BodyLength::Empty { BodyLength::UntilClose } else { body };
        prop_assert_eq!((response.status, response.body, response.head_len), (status, read_body, head.len()));
        prop_assert_eq!(response.reason, http1::reason_phrase(status));
        let read = response.headers.iter().map(|header| (header.name, header.value));
        prop_assert!(read.take(fields.len()).eq(fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()))));
    }
}

const LIMITS: Limits = Limits { head_bytes: 500, fields: 100 };

const WORDS: &[&str] = &[
    "GET ",
    "CONNECT ",
    "OPTIONS ",
    "/",
    "/a?b ",
    "http://a/ ",
    "* ",
    "a:1 ",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\n",
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    " ",
    ":",
    "host: a\r\n",
    "Host: [::1]:80\r\n",
    "content-length: 5\r\n",
    "content-length: ",
    "5",
    ",",
    "transfer-encoding: chunked\r\n",
    "transfer-encoding: ",
    "chunked",
    "gzip",
    "connection: close\r\n",
    "connection: x, upgrade\r\n",
    "upgrade: b\r\n",
    "x: y\r\n",
    "\0",
    "a",
    "expect: 100-continue\r\n",
    "#",
    "@",
];
