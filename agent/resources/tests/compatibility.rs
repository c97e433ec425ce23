//! `docs/compatibility.md` names only fields that are read, and says of each what `docs/fields.md` says, which is
//! rendered from the decoders.
#![expect(clippy::unwrap_used, reason = "a page that cannot be read should stop")]

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn every_field_named_is_read_and_does_what_is_said() {
    let (fields, page) = (Fields::of(&page("fields.md")), page("compatibility.md"));
    let mut wrong = Vec::new();
    let mut rows = 0;
    let mut kinds: Vec<&str> = Vec::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let named = title.split(", ").map(|kind| kind.split(' ').next().unwrap_or_default());
            kinds = named.filter(|kind| fields.0.contains_key(*kind)).collect();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if kinds.is_empty() || !line.starts_with("| `") && !line.starts_with("| Service") {
            continue;
        }
        rows += 1;
        wrong.extend(fields.check(&kinds, cells[1], cells[2]));
    }
    assert!(rows > 60, "only {rows} rows are looked at: have the headings changed?");
    assert!(
        wrong.is_empty(),
        "docs/compatibility.md says what docs/fields.md does not:\n{}",
        wrong.join("\n")
    );
}

fn page(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    fs::read_to_string(&file).unwrap()
}

/// By kind: every field with its object and what becomes of it.
struct Fields(BTreeMap<String, Vec<(String, String, State)>>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Honoured,
    Warned,
    Otherwise,
}

impl Fields {
    fn of(page: &str) -> Self {
        let mut kinds: BTreeMap<String, Vec<(String, String, State)>> = BTreeMap::new();
        let mut kind = String::new();
        for line in page.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                title.clone_into(&mut kind);
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let Some(object) = cells.get(1).filter(|_| line.starts_with("| `")) else { continue };
            let object = object.trim_matches('`').to_owned();
            let known = kinds.entry(kind.clone()).or_default();
            if let Some(other) = cells[2].strip_prefix("as `") {
                let other = other.trim_end_matches('`').to_owned();
                let same: Vec<_> = known.iter().filter(|(at, ..)| *at == other).cloned().collect();
                known.extend(same.into_iter().map(|(_, field, state)| (object.clone(), field, state)));
                continue;
            }
            for (cell, state) in [(2, State::Honoured), (3, State::Warned), (4, State::Otherwise)] {
                let names = backticked(cells[cell]).map(|name| (object.clone(), name.to_owned(), state));
                known.extend(names);
            }
        }
        Self(kinds)
    }

    /// What is wrong with a row of the page.
    fn check(&self, kinds: &[&str], names: &str, said: &str) -> Vec<String> {
        // Words beside the names speak of a value of the field, or of a label.
        let beside: String = names.split('`').step_by(2).collect();
        let is_about_fields = beside.chars().all(|c| " ,".contains(c));
        // `Service `ports`` names the kind in front of its fields.
        let own = kinds.iter().copied().find(|kind| names.starts_with(&format!("{kind} ")));
        let kinds = own.map_or(kinds.to_vec(), |kind| vec![kind]);
        let mut object = String::new();
        let mut wrong = Vec::new();
        for written in backticked(names).filter(|name| is_field_path(name)) {
            let (before, field) = written.rsplit_once('.').unwrap_or(("", written));
            if !before.is_empty() {
                before.clone_into(&mut object);
            }
            let states = self.states(&kinds, &object, field.trim_end_matches("[]"));
            let agrees = match said.split([' ', ';', ':', ',']).next() {
                Some("honoured") => states.contains(&State::Honoured),
                Some("warned") if is_about_fields => states.contains(&State::Warned),
                _ => !states.is_empty(),
            };
            if !agrees {
                wrong.push(format!("{} `{written}`: \"{said}\", but {states:?}", kinds.join(", ")));
            }
        }
        wrong
    }

    /// What becomes of a field in this object, or in any of the kind when there is no such object.
    fn states(&self, kinds: &[&str], object: &str, field: &str) -> Vec<State> {
        let all = || kinds.iter().flat_map(|kind| &self.0[*kind]).filter(|(_, name, _)| name == field);
        let within = |at: &str| at == object || at.ends_with(&format!(".{object}"));
        let exact: Vec<State> = all().filter(|(at, ..)| within(at)).map(|(.., state)| *state).collect();
        if exact.is_empty() { all().map(|(.., state)| *state).collect() } else { exact }
    }
}

fn backticked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `servers[].port.number` and `.name`, but neither `@request.auth.claims…` nor `kubernetes.io/service-name`.
fn is_field_path(name: &str) -> bool {
    let starts = name.trim_start_matches('.').starts_with(|c: char| c.is_ascii_lowercase());
    starts && name.chars().all(|c| c.is_ascii_alphanumeric() || ".[]".contains(c))
}
