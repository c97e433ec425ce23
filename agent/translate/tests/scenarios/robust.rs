//! Whatever a file holds, reading and translating it ends without a panic.

use proptest::prelude::*;
use resources::{Files, ReadDefaults};
use translate::{Proxy, ProxyKind, translate};

use crate::support;

/// A line taken out, doubled, or with a piece replaced.
#[derive(Clone, Debug)]
pub(crate) enum Mangling {
    Remove,
    Double,
    Replace(&'static str, &'static str),
}

pub(crate) fn mangling() -> impl Strategy<Value = (prop::sample::Index, Mangling)> {
    let replacements =
        [("80", "0"), ("80", "65535"), ("a", "*"), (".", ""), ("[", ""), ("http", "tcp"), ("default", "~")];
    let replace =
        prop::sample::select(replacements.to_vec()).prop_map(|(from, to)| Mangling::Replace(from, to));
    let mangling = prop_oneof![Just(Mangling::Remove), Just(Mangling::Double), replace];
    (any::<prop::sample::Index>(), mangling)
}

pub(crate) fn mangled(input: &str, manglings: &[(prop::sample::Index, Mangling)]) -> String {
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

/// Resources that are refused whole, each for a reason of its own.
const REFUSED: [&str; 6] = [
    "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: bad}\nspec: {hosts: [a.com], gateways: [gw]}\n",
    "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: bad}\nspec: {hosts: [a.com], http: \
     [{match: [{uri: {regex: '('}}], directResponse: {status: 200}}]}\n",
    "kind: DestinationRule\napiVersion: networking.istio.io/v1\nmetadata: {name: bad}\nspec: {trafficPolicy: {}}\n",
    "kind: Gateway\napiVersion: networking.istio.io/v1\nmetadata: {name: bad}\nspec: {servers: []}\n",
    "kind: Service\napiVersion: v1\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n",
    "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: bad}\nspec: {hosts: [a.com], http: {}}\n",
];

/// The snapshot of some documents for both kinds of proxy.
fn snapshots(documents: &[&str]) -> Vec<String> {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", &documents.join("---\n"));
    let (set, _) = files.resources();
    let kinds = [ProxyKind::Router, ProxyKind::Sidecar];
    let translated = kinds.map(|kind| {
        let proxy = Proxy::new(kind, "prod");
        let certificates = support::certificate_files(&set, &proxy);
        translate(&set, &support::credentials(&certificates), &proxy).snapshot
    });
    translated.iter().map(support::text).collect()
}

proptest! {
    #[test]
    fn a_refused_resource_costs_only_itself(
        input in prop::sample::select(support::scenarios()),
        refused in prop::sample::select(REFUSED.to_vec()),
        at in any::<prop::sample::Index>(),
    ) {
        let mut documents: Vec<&str> = input.split("---\n").skip(1).collect();
        let alone = snapshots(&documents);
        documents.insert(at.index(documents.len() + 1), refused);
        prop_assert_eq!(snapshots(&documents), alone);
    }

    #[test]
    fn mangled_scenarios_never_panic(
        input in prop::sample::select(support::scenarios()),
        manglings in prop::collection::vec(mangling(), 1..6),
    ) {
        let mut files = Files::new(ReadDefaults::default());
        files.replace_file("a.yaml", &input);
        files.replace_file("a.yaml", &mangled(&input, &manglings));
        let (set, _) = files.resources();
        for kind in [ProxyKind::Router, ProxyKind::Sidecar] {
            let proxy = Proxy::new(kind, "prod");
            let certificates = support::certificate_files(&set, &proxy);
            let translation = translate(&set, &support::credentials(&certificates), &proxy);
            // The text asserts that every handle leads somewhere.
            support::text(&translation.snapshot);
            translation.findings.iter().for_each(|finding| assert!(!finding.to_string().is_empty()));
        }
    }
}
