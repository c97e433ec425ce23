//! What users are told about every sort of mistake: the tables of `bad-input/`.
//!
//! A line `= error Kind TEMPLATE` says what the rows below are put into, in the place of `$`, and what at least one of
//! their findings must be; `> ROW` is one mistake, and the lines after it are what `validate` says about it.
//! `UPDATE_GOLDEN=1` writes these anew, to be read before they are kept.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use resources::{Files, Finding, Kind, ReadDefaults, Severity};
use translate::{Credentials, review};

#[test]
fn every_mistake_is_told_as_written() {
    let mut differing = Vec::new();
    for path in tables() {
        let table = fs::read_to_string(&path).unwrap();
        let told = with_findings(&table);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &told).unwrap();
        } else if let Some((is, was)) = told.lines().zip(table.lines()).find(|(is, was)| is != was) {
            differing.push(format!("{}:\n  is  {is}\n  was {was}", path.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn tables() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad-input");
    let mut tables: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    tables.sort();
    assert!(tables.len() > 5, "{tables:?}");
    tables
}

/// The table with what is said about each of its rows.
fn with_findings(table: &str) -> String {
    let mut told = String::new();
    let (mut severity, mut kind, mut template) = (Severity::Error, Kind::Gateway, "$");
    for line in table.lines().filter(|line| line.starts_with(['=', '>'])) {
        writeln!(told, "{line}").unwrap();
        if let Some(section) = line.strip_prefix("= ") {
            let mut words = section.splitn(3, ' ');
            severity = if words.next() == Some("error") { Severity::Error } else { Severity::Warning };
            kind = Kind::named(words.next().unwrap()).unwrap();
            template = words.next().unwrap();
        } else if let Some(row) = line.strip_prefix("> ") {
            let findings = findings(kind, &template.replace('$', row));
            assert!(findings.iter().any(|finding| finding.severity == severity), "nothing is said: {line}");
            for finding in findings {
                assert_shape(&finding);
                writeln!(told, "  {}: {finding}", finding.severity).unwrap();
            }
        }
    }
    told
}

/// What `validate` says about a resource of this kind.
fn findings(kind: Kind, contents: &str) -> Vec<Finding> {
    let group = if kind.group().is_empty() { String::new() } else { format!("{}/", kind.group()) };
    let contents = if contents.starts_with('{') { format!("spec: {contents}") } else { contents.to_owned() };
    let head = format!("apiVersion: {group}{}, kind: {kind}, metadata: {{name: x}}", kind.versions()[0]);
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("x.yaml", &format!("{{{head},\n{contents}}}\n"));
    let (set, mut findings) = files.resources();
    findings.extend(review(&set, &Credentials::UNSEEN, "cluster.local"));
    findings.into_iter().map(Finding::strict).collect()
}

/// `file:line:col: Kind ns/name: spec.path: what is wrong (found …; expected …; remedy)`.
fn assert_shape(finding: &Finding) {
    let text = finding.to_string();
    let place = finding.place.as_ref().unwrap();
    assert!(place.line > 0 && place.column > 0, "no place in the file: {text}");
    let resource = finding.resource.as_ref().map(ToString::to_string).unwrap();
    let start = format!("x.yaml:{}:{}: {resource}: ", place.line, place.column);
    assert!(text.starts_with(&start), "{text}");
    let (said, bracket) = text.split_once(" (").unwrap_or_else(|| panic!("no bracket: {text}"));
    assert!(said.len() > start.len() && bracket.len() > 4 && text.ends_with(')'), "{text}");
    assert!(!said.ends_with(['.', ',', ':', ';']), "{text}");
}
