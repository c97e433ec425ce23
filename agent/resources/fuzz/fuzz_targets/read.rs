//! Texts of any bytes: no panic, and what was read is written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        resources::rewrite::assert_survives(text);
    }
});
