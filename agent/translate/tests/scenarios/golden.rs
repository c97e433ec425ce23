//! Scenarios: `golden/<name>.yaml` must give the snapshot and findings in `golden/<name>.txt`.
//!
//! The first line of an input says whose snapshot it is. `UPDATE_GOLDEN=1` writes the results anew, to be read before
//! they are committed.

use std::fs;

use resources::{Files, ReadDefaults};
use translate::translate;

use crate::support;

/// Snapshot and findings of a scenario as text.
fn outcome(name: &str, input: &str) -> String {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file(&format!("{name}.yaml"), input);
    let (set, mut findings) = files.resources();
    let proxy = support::proxy(input.lines().next().unwrap());
    let files = support::certificate_files(&set, &proxy);
    let translation = translate(&set, &support::credentials(&files), &proxy);
    findings.extend(translation.findings);
    let shown = findings.iter().map(|finding| format!("{} {finding}\n", finding.severity));
    support::text(&translation.snapshot) + &shown.collect::<String>()
}

#[test]
fn every_scenario_gives_what_is_written() {
    let inputs = support::inputs();
    let mut wrong = Vec::new();
    for input in &inputs {
        let name = input.file_stem().unwrap().to_str().unwrap();
        let found = outcome(name, &fs::read_to_string(input).unwrap());
        let expected = input.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if found != expected {
            wrong.push(format!("== {name}: wanted\n{expected}== got\n{found}"));
        }
    }
    assert!(inputs.len() > 5, "scenarios are missing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
