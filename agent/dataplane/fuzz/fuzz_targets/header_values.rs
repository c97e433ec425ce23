//! Values of headers with operators in them, filled in by requests of any bytes: whatever a client says, what is sent
//! on is one request with the fields it should have.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (format, request) = input;
    dataplane::fuzzing::change_heads(format, request);
    // Most formats of any bytes have no operator.
    dataplane::fuzzing::change_heads(OPERATORS, request);
});

const OPERATORS: &str = "%REQ(x-a?:path)% %REQ(x-b):3% %REQ_WITHOUT_QUERY(:path)% %REQ(host)% %REQ(x-set)% \
                         %RESP(x-c)% %RESP(content-type?x-d):5% %START_TIME(%s.%3f)% %DOWNSTREAM_REMOTE_ADDRESS%";
