//! Neither the order of documents nor their spread over files may matter.

use proptest::prelude::*;
use resources::{Files, ReadDefaults};
use translate::translate;

use crate::support;

/// The documents of a scenario.
fn documents(input: &str) -> Vec<String> {
    input.split("---\n").skip(1).map(str::to_owned).collect()
}

/// Snapshot, and findings without their places, of documents spread over three files.
fn outcome(proxy: &str, documents: &[String]) -> (String, Vec<String>) {
    let mut files = Files::new(ReadDefaults::default());
    for file in 0..3 {
        let part: Vec<&str> = documents.iter().skip(file).step_by(3).map(String::as_str).collect();
        files.replace_file(&format!("{file}.yaml"), &part.join("---\n"));
    }
    let (set, _) = files.resources();
    let proxy = support::proxy(proxy);
    let certificates = support::certificate_files(&set, &proxy);
    let translation = translate(&set, &support::credentials(&certificates), &proxy);
    let mut findings: Vec<String> =
        translation.findings.iter().map(|f| format!("{:?} {} {:?}", f.resource, f.path, f.rule)).collect();
    findings.sort();
    (support::text(&translation.snapshot), findings)
}

fn shuffled() -> impl Strategy<Value = (String, Vec<String>, Vec<String>)> {
    prop::sample::select(support::scenarios()).prop_flat_map(|input| {
        let proxy = input.lines().next().unwrap().to_owned();
        let documents = documents(&input);
        (Just(proxy), Just(documents.clone()), Just(documents).prop_shuffle())
    })
}

proptest! {
    #[test]
    fn shuffled_resources_give_the_same_snapshot((proxy, documents, shuffled) in shuffled()) {
        prop_assert_eq!(outcome(&proxy, &documents), outcome(&proxy, &shuffled));
    }
}
