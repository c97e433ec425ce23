//! Whatever a file holds, reading and translating it ends without a panic.

use proptest::prelude::*;
use resources::{Files, ReadDefaults};
use translate::{Proxy, ProxyKind, translate};

use crate::support;

/// A line taken out, doubled, or with a piece replaced.
#[derive(Clone, Debug)]
enum Mangling {
    Remove,
    Double,
    Replace(&'static str, &'static str),
}

fn mangling() -> impl Strategy<Value = (prop::sample::Index, Mangling)> {
    let replacements =
        [("80", "0"), ("80", "65535"), ("a", "*"), (".", ""), ("[", ""), ("http", "tcp"), ("default", "~")];
    let replace =
        prop::sample::select(replacements.to_vec()).prop_map(|(from, to)| Mangling::Replace(from, to));
    let mangling = prop_oneof![Just(Mangling::Remove), Just(Mangling::Double), replace];
    (any::<prop::sample::Index>(), mangling)
}

fn mangled(input: &str, manglings: &[(prop::sample::Index, Mangling)]) -> String {
    let mut lines: Vec<String> = input.lines().map(str::to_owned).collect();
    for (at, mangling) in manglings {
        if lines.is_empty() {
            break;
        }
        let at = at.index(lines.len());
        match mangling {
            Mangling::Remove => _ = lines.remove(at),
            Mangling::Double => lines.insert(at, lines[at].clone()),
            Mangling::Replace(from, to) => lines[at] = lines[at].replace(from, to),
        }
    }
    lines.join("\n")
}

proptest! {
    #[test]
    fn mangled_scenarios_never_panic(
        input in prop::sample::select(support::scenarios()),
        manglings in prop::collection::vec(mangling(), 1..6),
    ) {
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", &input);
        files.replace_file("a.yaml", &mangled(&input, &manglings));
        let (set, _) = files.resources();
        let certificates = support::certificate_files(&set);
        for kind in [ProxyKind::Router, ProxyKind::Sidecar] {
            let translation = translate(&set, &support::credentials(&certificates), &Proxy::new(kind, "prod"));
            // The text asserts that every handle leads somewhere.
            support::text(&translation.snapshot);
            translation.findings.iter().for_each(|finding| assert!(!finding.to_string().is_empty()));
        }
    }
}
