use super::*;

/// Feeds `input` in pieces of `step` bytes; returns the data and what was left of the input once the body was done.
fn decode_by(step: usize, length: BodyLength, input: &[u8]) -> Result<(Vec<u8>, usize), BodyError> {
    let mut decoder = BodyDecoder::new(length);
    let (mut data, mut at) = (Vec::new(), 0);
    while at < input.len() && !decoder.is_done() {
        let piece = &input[at..input.len().min(at + step)];
        let decoded = decoder.decode(piece)?;
        assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= piece.len());
        assert!(decoded.consumed > 0, "no progress");
        data.extend_from_slice(&piece[decoded.data]);
        at += decoded.consumed;
    }
    decoder.end_of_input()?;
    Ok((data, input.len() - at))
}

fn decode_chunked(input: &[u8]) -> Result<(Vec<u8>, usize), BodyError> {
    let at_once = decode_by(usize::MAX / 2, BodyLength::Chunked, input);
    assert_eq!(decode_by(1, BodyLength::Chunked, input), at_once, "byte by byte differs");
    at_once
}

fn body(data: &str) -> Result<(Vec<u8>, usize), BodyError> {
    Ok((data.as_bytes().to_vec(), 0))
}

#[test]
fn empty_body_is_done_before_it_begins() {
    for length in [BodyLength::Empty, BodyLength::Length(0)] {
        let mut decoder = BodyDecoder::new(length);
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(b"next"), Ok(Decoded { consumed: 0, data: 0..0, done: true }));
    }
}

#[test]
fn body_of_known_length_leaves_the_next_message_alone() {
    let mut decoder = BodyDecoder::new(BodyLength::Length(5));
    assert_eq!(decoder.decode(b"hel"), Ok(Decoded { consumed: 3, data: 0..3, done: false }));
    assert_eq!(decoder.contiguous(), 2);
    assert_eq!(decoder.decode(b"loGET /"), Ok(Decoded { consumed: 2, data: 0..2, done: true }));
    assert_eq!(decoder.decode(b"GET /"), Ok(Decoded { consumed: 0, data: 0..0, done: true }));
}

#[test]
fn body_until_close_takes_everything() {
    let mut decoder = BodyDecoder::new(BodyLength::UntilClose);
    assert_eq!(decoder.decode(b"abc"), Ok(Decoded { consumed: 3, data: 0..3, done: false }));
    assert_eq!(decoder.end_of_input(), Ok(()));
    assert!(decoder.is_done());
}

#[test]
fn input_that_ends_early_is_truncated() {
    assert_eq!(decode_by(9, BodyLength::Length(5), b"hell"), Err(BodyError::Truncated));
    for input in ["", "5", "5\r\n", "5\r\nhello", "5\r\nhello\r\n", "0\r\n", "0\r\n\r", "0\r\na: b\r\n"] {
        assert_eq!(decode_chunked(input.as_bytes()), Err(BodyError::Truncated), "{input:?}");
    }
}

#[test]
fn one_call_takes_a_chunk_and_the_framing_around_it() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let input = b"5\r\nhello\r\n0\r\n\r\nnext";
    assert_eq!(decoder.decode(input), Ok(Decoded { consumed: input.len() - 4, data: 3..8, done: true }));
}

#[test]
fn chunks_come_one_at_a_time() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let input = b"2\r\nab\r\n3\r\ncde";
    assert_eq!(decoder.decode(input), Ok(Decoded { consumed: 10, data: 3..5, done: false }));
    assert_eq!(decoder.contiguous(), 3);
    assert_eq!(decoder.decode(&input[10..]), Ok(Decoded { consumed: 3, data: 0..3, done: false }));
}

#[test]
fn chunk_sizes_are_hexadecimal_in_either_case_with_leading_zeros() {
    assert_eq!(
        decode_chunked(b"a\r\n0123456789\r\n00A\r\n0123456789\r\n000\r\n\r\n"),
        body("01234567890123456789")
    );
}

#[test]
fn chunk_size_may_have_sixteen_digits() {
    assert_eq!(decode_chunked(b"0000000000000001\r\na\r\n0\r\n\r\n"), body("a"));
    assert_eq!(decode_chunked(b"00000000000000001\r\na\r\n0\r\n\r\n"), Err(BodyError::InvalidChunkSize));
    assert_eq!(decode_chunked(b"10000000000000000\r\n"), Err(BodyError::InvalidChunkSize));
    assert_eq!(decode_chunked(b"ffffffffffffffff\r\na"), Err(BodyError::Truncated));
}

#[test]
fn chunk_size_that_is_no_number_is_refused() {
    for input in
        ["\r\n", "g\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n", ";a\r\n", "1_0\r\n", "1\0\r\n", "\u{ff11}"]
    {
        assert_eq!(decode_chunked(input.as_bytes()), Err(BodyError::InvalidChunkSize), "{input:?}");
    }
}

#[test]
fn whitespace_after_a_chunk_size_is_dropped_and_counted() {
    assert_eq!(decode_chunked(b"1 \t\r\na\r\n0  \r\n\r\n"), body("a"));
    assert_eq!(decode_chunked(b"1 \na\r\n0\r\n\r\n"), Err(BodyError::InvalidChunkSize));
    let padded = format!("1{}\r\n", " ".repeat(17_000));
    assert_eq!(decode_chunked(padded.as_bytes()), Err(BodyError::TooManyExtensions));
    assert_eq!(decode_chunked(b"1 2\r\n"), Err(BodyError::InvalidChunkSize));
    assert_eq!(decode_chunked(b"1 \t; x\r\na\r\n0\r\n\r\n"), body("a"));
}

#[test]
fn extensions_are_dropped() {
    assert_eq!(decode_chunked(b"1;a=b;c=\"d;e\"\r\na\r\n0;last\r\n\r\n"), body("a"));
}

#[test]
fn control_characters_in_extensions_are_refused() {
    assert_eq!(decode_chunked(b"1;a\0\r\n"), Err(BodyError::InvalidExtension));
    assert_eq!(decode_chunked(b"1;a\x7f\r\n"), Err(BodyError::InvalidExtension));
}

#[test]
fn line_ends_other_than_cr_lf_are_refused() {
    for input in [
        "1\na\r\n",
        "1\r\na\n",
        "1\r\na\r\r",
        "1;x\na\r\n",
        "1;x\ry\r\n",
        "1\r\na\r\n0\n\n",
        "0\r\n\n",
        "0\r\n\ra",
        "0\r\na: b\n\n",
        "0\r\na: b\rc\r\n",
        "0\r\na\n",
        "1\rx",
    ] {
        assert_eq!(decode_chunked(input.as_bytes()), Err(BodyError::InvalidLineEnd), "{input:?}");
    }
}

#[test]
fn data_before_bad_framing_is_returned_first() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let input = b"2\r\nabc";
    assert_eq!(decoder.decode(input), Ok(Decoded { consumed: 5, data: 3..5, done: false }));
    assert_eq!(decoder.decode(&input[5..]), Err(BodyError::InvalidLineEnd));
}

#[test]
fn data_beyond_its_chunk_size_is_refused() {
    assert_eq!(decode_chunked(b"1\r\nab\r\n0\r\n\r\n"), Err(BodyError::InvalidLineEnd));
}

#[test]
fn extensions_may_not_outweigh_the_data_by_much() {
    let flood = "1;aaaaaaaaaaaaaaa\r\na\r\n".repeat(2000);
    assert_eq!(decode_by(1000, BodyLength::Chunked, flood.as_bytes()), Err(BodyError::TooManyExtensions));
    let spaces = format!("1{}", " ".repeat(20_000));
    assert_eq!(decode_chunked(spaces.as_bytes()), Err(BodyError::TooManyExtensions));
}

#[test]
fn extensions_lighter_than_their_data_may_go_on_for_ever() {
    let chunk = format!("64;signature={}\r\n{}\r\n", "a".repeat(64), "b".repeat(100));
    let input = chunk.repeat(2000) + "0\r\n\r\n";
    let (data, left) = decode_by(1000, BodyLength::Chunked, input.as_bytes()).unwrap();
    assert_eq!((data.len(), left), (200_000, 0));
}

#[test]
fn trailers_are_dropped() {
    assert_eq!(decode_chunked(b"1\r\na\r\n0\r\nx-sum: 1\r\nempty:\r\n\r\n"), body("a"));
}

#[test]
fn trailers_that_are_no_fields_are_refused() {
    for input in [
        "0\r\n a: b\r\n",
        "0\r\na : b\r\n",
        "0\r\n: b\r\n",
        "0\r\na\r\n",
        "0\r\na: \0\r\n",
        "0\r\nGET / HTTP/1.1\r\n",
    ] {
        assert_eq!(decode_chunked(input.as_bytes()), Err(BodyError::InvalidTrailer), "{input:?}");
    }
}

#[test]
fn trailers_are_limited_in_number_and_size() {
    let fields = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(decode_chunked(fields(100).as_bytes()), body(""));
    assert_eq!(decode_chunked(fields(101).as_bytes()), Err(BodyError::TooManyTrailers));
    let long = format!("0\r\na: {}\r\n\r\n", "b".repeat(16 * 1024));
    assert_eq!(decode_chunked(long.as_bytes()), Err(BodyError::TooManyTrailers));
}
