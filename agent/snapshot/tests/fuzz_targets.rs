//! The fuzz targets, which are outside the workspace: compiled here, so that they keep up with the crate, and run once.

// What they import, as libFuzzer's crate has it.
extern crate self as libfuzzer_sys;

#[path = "../fuzz/fuzz_targets/formats.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
mod formats;
#[path = "../fuzz/fuzz_targets/paths.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
mod paths;

#[test]
fn nothing_is_found_in_usual_texts() {
    for text in ["%REQ(x-a?:path):3% %START_TIME(%s.%3f)%", "%REQ(", "plain", ""] {
        formats::run(text);
    }
    for path in ["/a/../b//c?d=/../e", "/%2e%2E/a%2Fb", "/", ""] {
        paths::run((path, r"/x\1", 1));
    }
}

// Below the targets, which have it from their import so.
macro_rules! fuzz_target {
    (|$input:ident: $of:ty| $body:expr) => {
        pub(crate) fn run($input: $of) {
            $body
        }
    };
}
pub(crate) use fuzz_target;
