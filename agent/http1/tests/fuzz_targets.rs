//! The fuzz targets, which are outside the workspace: compiled here, so that they keep up with the crate, and run with
//! the texts that fuzzing begins with.

// What they import, as libFuzzer's crate has it.
extern crate self as libfuzzer_sys;

#[path = "../fuzz/fuzz_targets/body.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
mod body;
#[path = "../fuzz/fuzz_targets/head.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
mod head;

#[test]
fn nothing_is_found_in_what_fuzzing_begins_with() {
    seeds("body").for_each(|seed| body::run(&seed));
    seeds("head").for_each(|seed| head::run(&seed));
}

fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let directory = format!("{}/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut seeds = std::fs::read_dir(directory).expect("there are seeds").peekable();
    assert!(seeds.peek().is_some());
    seeds.map(|seed| std::fs::read(seed.expect("a file").path()).expect("it can be read"))
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
