//! Texts with Envoy's operators, of access logs and headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapshot::Format;

fuzz_target!(|text: &str| {
    if let Ok(format) = Format::parse(text) {
        assert_eq!(format.source(), text);
        // Every piece comes from the text: nothing grows.
        assert!(format.pieces().len() <= text.len());
    }
});
