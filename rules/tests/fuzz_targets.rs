//! The fuzz target, which is outside the workspace: compiled here, so that it keeps up with the crate, and run with the
//! texts that fuzzing begins with.

// What it imports, as libFuzzer's crate has it.
extern crate self as libfuzzer_sys;

#[cfg(test)]
#[path = "../fuzz/fuzz_targets/transition.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
mod transition;

#[test]
fn nothing_is_found_in_what_fuzzing_begins_with() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/transition");
    let mut seeds = std::fs::read_dir(directory).expect("there are seeds").peekable();
    assert!(seeds.peek().is_some());
    for seed in seeds {
        let path = seed.expect("a file").path();
        transition::run(&std::fs::read_to_string(path).expect("it can be read"));
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
