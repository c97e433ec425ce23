//! First bytes of connections: protocol detection, TLS client hellos, PROXY headers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| dataplane::fuzzing::read_opening(bytes));
