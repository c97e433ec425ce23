//! Writes what was read, for the property that reading it again gives the same. Only tests and fuzzing need it.

use std::sync::Arc;

use crate::{
    Finding, Meta, Object, ReadDefaults, Resource,
    decode::is_other_scalar,
    finding::Place,
    meta::Positions,
    read,
    yaml::{self, Node, Value},
};

/// Reads a text, writes its documents in another form and reads that.
///
/// # Panics
///
/// When the two differ by more than where things are written.
pub fn assert_survives(text: &str) {
    let defaults = ReadDefaults::default();
    let first = read("a.yaml", text, &defaults);
    let nodes: Result<Vec<_>, _> = yaml::documents(text).collect();
    let Some(written) = nodes.ok().and_then(|nodes| nodes.iter().map(write).collect::<Option<String>>())
    else {
        return;
    };
    let second = read("a.yaml", &written, &defaults);
    let bare = |resources: &[Resource]| resources.iter().map(without_places).collect::<Vec<_>>();
    let said = |findings: &[Finding]| {
        let bare = findings.iter().cloned().map(|finding| Finding { place: None, ..finding });
        bare.collect::<Vec<_>>()
    };
    assert_eq!(said(&first.findings), said(&second.findings), "{written}");
    assert_eq!(bare(&first.resources), bare(&second.resources), "{written}");
    assert_eq!(first.refused, second.refused, "{written}");
}

/// A document in flow form, everything but numbers and the like in quotes. `None` when YAML could not be read in that
/// form, which bounds the length of keys.
fn write(node: &Node<'_>) -> Option<String> {
    let mut text = "--- ".to_owned();
    write_node(node, &mut text)?;
    text.push('\n');
    Some(text)
}

fn write_node(node: &Node<'_>, out: &mut String) -> Option<()> {
    match &node.value {
        _ if node.is_null() => out.push_str("null"),
        Value::Scalar { text, plain: true } if is_other_scalar(text) => out.push_str(text),
        Value::Scalar { text, .. } => write_quoted(text, out),
        Value::List(items) => {
            out.push('[');
            for item in items {
                write_node(item, out)?;
                out.push_str(", ");
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for member in members {
                if member.key.len() > LONGEST_KEY {
                    return None;
                }
                write_quoted(&member.key, out);
                out.push_str(": ");
                write_node(&member.value, out)?;
                out.push_str(", ");
            }
            out.push('}');
        }
    }
    Some(())
}

const LONGEST_KEY: usize = 100;

fn write_quoted(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
}

fn without_places(resource: &Resource) -> Resource {
    fn bare<T: Clone>(object: &Object<T>) -> Arc<Object<T>> {
        Arc::new(Object { meta: bare_meta(&object.meta), spec: object.spec.clone() })
    }
    match resource {
        Resource::Gateway(object) => Resource::Gateway(bare(object)),
        Resource::VirtualService(object) => Resource::VirtualService(bare(object)),
        Resource::DestinationRule(object) => Resource::DestinationRule(bare(object)),
        Resource::ServiceEntry(object) => Resource::ServiceEntry(bare(object)),
        Resource::WorkloadEntry(object) => Resource::WorkloadEntry(bare(object)),
        Resource::Sidecar(object) => Resource::Sidecar(bare(object)),
        Resource::PeerAuthentication(object) => Resource::PeerAuthentication(bare(object)),
        Resource::RequestAuthentication(object) => Resource::RequestAuthentication(bare(object)),
        Resource::AuthorizationPolicy(object) => Resource::AuthorizationPolicy(bare(object)),
        Resource::Telemetry(object) => Resource::Telemetry(bare(object)),
        Resource::Service(object) => Resource::Service(bare(object)),
        Resource::EndpointSlice(object) => Resource::EndpointSlice(bare(object)),
        Resource::Endpoints(object) => Resource::Endpoints(bare(object)),
        Resource::Secret(object) => Resource::Secret(bare(object)),
        Resource::Pod(object) => Resource::Pod(bare(object)),
        Resource::ConfigMap(object) => Resource::ConfigMap(bare(object)),
        Resource::Namespace(meta) => Resource::Namespace(Arc::new(bare_meta(meta))),
        Resource::Node(meta) => Resource::Node(Arc::new(bare_meta(meta))),
    }
}

fn bare_meta(meta: &Meta) -> Meta {
    Meta { place: Place::whole(""), positions: Positions::default(), ..meta.clone() }
}

/// The fuzz target, which is outside the workspace: compiled here, so that it keeps up with the crate.
#[cfg(test)]
#[path = "../fuzz/fuzz_targets/read.rs"]
#[expect(unused_attributes, reason = "a program of its own says that it has no `main`")]
mod target;

/// As libFuzzer's crate has it; below the target, which has it from its import so.
#[cfg(test)]
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $of:ty| $body:expr) => {
        pub(super) fn run($input: $of) {
            $body
        }
    };
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// The texts of the translation's scenarios, which between them hold every kind.
    fn scenarios() -> Vec<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../translate/tests/golden");
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let mut texts: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        texts.sort();
        assert!(texts.len() > 10, "the scenarios are not where they were");
        texts
    }

    #[test]
    fn every_scenario_survives() {
        scenarios().iter().for_each(|text| target::run(text.as_bytes()));
    }

    #[test]
    fn a_value_that_would_be_lost_is_noticed() {
        // Were `'80'` written without quotes it would be read as the number that it is not.
        let written = write(&yaml::documents("a: '80'\nb: 80\nc: ~\nd: \"é\\n\"").next().unwrap().unwrap());
        assert_eq!(
            written.unwrap(),
            "--- {\"a\": \"80\", \"b\": 80, \"c\": null, \"d\": \"\\U000000e9\\U0000000a\", }\n"
        );
    }

    proptest! {
        #[test]
        fn scenarios_with_other_values_survive(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            value in "[ -~é]{0,12}|[0-9]{1,6}|(true|null|~|''|5s|0x1F|1e3)",
        ) {
            let texts = scenarios();
            let text = which.get(&texts);
            let ends: Vec<usize> = text.match_indices(": ").map(|(index, _)| index + 2).collect();
            let start = *at.get(&ends);
            let end = text[start..].find(['\n', ',', '}']).map_or(text.len(), |length| start + length);
            assert_survives(&format!("{}{value}{}", &text[..start], &text[end..]));
        }

        #[test]
        fn any_text_survives(text in "(?s).{0,300}") {
            assert_survives(&text);
        }
    }
}
