//! Certificates of any bytes, as clients show them, and what headers and logs say of them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| dataplane::fuzzing::read_certificate(der));
