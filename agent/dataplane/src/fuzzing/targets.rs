//! The fuzz targets, which are outside the workspace: compiled here, so that they keep up with the crate.

#[path = "../../fuzz/fuzz_targets/certificate.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
pub(super) mod certificate;
#[path = "../../fuzz/fuzz_targets/header_values.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
pub(super) mod header_values;
#[path = "../../fuzz/fuzz_targets/log_lines.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
pub(super) mod log_lines;
#[path = "../../fuzz/fuzz_targets/opening.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
pub(super) mod opening;

/// As libFuzzer's crate has it; below the targets, which have it from their import so.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $of:ty| $body:expr) => {
        pub(crate) fn run($input: $of) {
            $body
        }
    };
}
