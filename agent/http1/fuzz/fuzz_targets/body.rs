//! Bodies of any bytes, split where the first byte says: no panic, and the same as decoded at once.
#![no_main]

use http1::{BodyDecoder, BodyError, BodyLength};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((step, input)) = bytes.split_first() else { return };
    for length in [BodyLength::Chunked, BodyLength::Length(100), BodyLength::UntilClose] {
        assert_eq!(decode(length, input, usize::from(*step).max(1)), decode(length, input, usize::MAX));
    }
});

fn decode(length: BodyLength, input: &[u8], step: usize) -> (Vec<u8>, Result<usize, BodyError>) {
    let mut decoder = BodyDecoder::new(length);
    let (mut data, mut at) = (Vec::new(), 0);
    while at < input.len() && !decoder.is_done() {
        let piece = &input[at..input.len().min(at.saturating_add(step))];
        match decoder.decode(piece) {
            Ok(decoded) => {
                assert!(decoded.consumed > 0 && decoded.consumed <= piece.len());
                data.extend_from_slice(&piece[decoded.data]);
                at += decoded.consumed;
            }
            Err(error) => return (data, Err(error)),
        }
    }
    (data, decoder.end_of_input().map(|()| at))
}
