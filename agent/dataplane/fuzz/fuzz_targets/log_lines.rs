//! Access log lines of any format and any bytes in fields: a line stays one line, its quotes stay closed, and JSON is
//! JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (&str, &[u8])| {
    let (format, fields) = input;
    for format in [format, OPERATORS] {
        let Some([text, json]) = dataplane::fuzzing::log_lines(format, fields) else { continue };
        let line = text.strip_suffix(b"\n").expect("a line ends");
        if format.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "{line:?}");
        }
        if !format.contains('\\') {
            let [without_fields, _] =
                dataplane::fuzzing::log_lines(format, &[]).expect("the format is valid");
            assert_eq!(quotes(line), quotes(&without_fields), "{}", line.escape_ascii());
        }
        let parsed: Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(parsed.as_object().map(serde_json::Map::len), Some(1));
        assert_eq!(json.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
});

/// Quotes that end or begin a value.
fn quotes(line: &[u8]) -> usize {
    let mut bytes = line.iter();
    let mut found = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => found += 1,
            _ => {}
        }
    }
    found
}

const OPERATORS: &str = "\"%REQ(x-a):3%\" \"%RESP(x-b?x-c)%\" \"%REQUESTED_SERVER_NAME:2%\" \"%TRAILER(x-d):1%\" \
                         \"%DOWNSTREAM_PEER_URI_SAN:4%\" \"%DOWNSTREAM_PEER_SUBJECT:5%\" %GRPC_STATUS(SNAKE_STRING)%";
