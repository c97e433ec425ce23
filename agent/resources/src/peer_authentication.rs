//! `security.istio.io` PeerAuthentication: which inbound connections must use mutual TLS.

use std::collections::BTreeMap;

use crate::{
    Labels, Path,
    decode::{Context, Decode, Fields, Shape, word_of},
    finding::Problem,
    labels::MatchLabels,
    yaml::Node,
};

/// Spec of a PeerAuthentication.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerAuthentication {
    /// Labels a workload must all have; absent or empty means every workload of the namespace.
    pub selector: Option<Labels>,
    /// What is asked of connections (`mtls.mode`).
    pub mode: MutualTlsMode,
    /// What is asked of connections to these ports of the workload instead.
    pub port_level: BTreeMap<u16, MutualTlsMode>,
}

impl Shape for PeerAuthentication {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let selector: Option<MatchLabels> = fields.optional("selector");
        let selector = selector.map(|selector| selector.0);
        let MutualTls(mode) = fields.or_default("mtls");
        let ports: Option<PortLevel> = fields.optional("portLevelMtls");
        if ports.is_some() && selector.as_ref().is_none_or(Labels::is_empty) {
            let problem = Problem::new("needs a selector, because ports differ from workload to workload");
            fields.error("portLevelMtls", problem.remedy("add `selector.matchLabels`"));
        }
        Self { selector, mode, port_level: ports.unwrap_or_default().0 }
    }
}

/// What is asked of a connection (`PeerAuthentication.MutualTLS.Mode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MutualTlsMode {
    /// As the next wider policy says; PERMISSIVE when none does.
    #[default]
    Unset,
    /// No mutual TLS.
    Disable,
    /// Mutual TLS or clear text.
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl Decode for MutualTlsMode {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let words = [
            ("UNSET", Self::Unset),
            ("DISABLE", Self::Disable),
            ("PERMISSIVE", Self::Permissive),
            ("STRICT", Self::Strict),
        ];
        word_of(node, &words, at, context)
    }
}

#[derive(Default)]
struct MutualTls(MutualTlsMode);

impl Shape for MutualTls {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        // A misspelt `mode` would leave open what its author meant to close.
        fields.refuse_unknown();
        Self(fields.or_default("mode"))
    }
}

#[derive(Default)]
struct PortLevel(BTreeMap<u16, MutualTlsMode>);

impl Decode for PortLevel {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let refused_before = context.refused;
        let written = BTreeMap::<String, MutualTls>::decode(node, at, context);
        if written.is_empty() && context.refused == refused_before {
            context.error(at, Problem::new("is empty").expected("at least one port"));
        }
        let mut modes = BTreeMap::new();
        for (port, MutualTls(mode)) in written {
            match port.parse() {
                Ok(number @ 1..) => _ = modes.insert(number, mode),
                _ => context
                    .error(&at.key(&port), Problem::new("is not a port").found(&port).expected("1–65535")),
            }
        }
        Self(modes)
    }

    #[cfg(test)]
    fn describe(path: &str, table: &mut crate::field_table::Table) {
        BTreeMap::<String, MutualTls>::describe(path, table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, testing};

    fn text(spec: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {spec}\n"
        )
    }

    fn policy(spec: &str) -> PeerAuthentication {
        let resource = testing::valid(&text(spec));
        let Resource::PeerAuthentication(object) = resource else { panic!("no PeerAuthentication") };
        object.spec.clone()
    }

    #[test]
    fn modes_are_read_for_workloads_and_ports() {
        let read = policy(
            "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, \
             portLevelMtls: {8080: {mode: DISABLE}, '9090': {mode: PERMISSIVE}, 9091: {}}}",
        );
        assert_eq!(read.mode, MutualTlsMode::Strict);
        assert_eq!(read.selector.unwrap()["app"], "web");
        let expected =
            [(8080, MutualTlsMode::Disable), (9090, MutualTlsMode::Permissive), (9091, MutualTlsMode::Unset)];
        assert_eq!(read.port_level, BTreeMap::from(expected));
    }

    #[test]
    fn nothing_written_asks_for_nothing() {
        for spec in ["{}", "", "{mtls: {}}", "{mtls: {mode: UNSET}}"] {
            assert_eq!(policy(spec), PeerAuthentication::default(), "{spec}");
        }
    }

    #[test]
    fn mistakes_are_one_message_each() {
        testing::assert_complaints(
            &[
                (
                    "{portLevelMtls: {80: {mode: STRICT}}}",
                    "4:8: PeerAuthentication default/default: spec.portLevelMtls: needs a selector",
                ),
                (
                    "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
                    "spec.portLevelMtls: is empty (expected at least one port)",
                ),
                (
                    "{selector: {matchLabels: {a: b}}, portLevelMtls: {0: {}}}",
                    "spec.portLevelMtls[0]: is not a port (found `0`; expected 1–65535)",
                ),
                (
                    "{selector: {matchLabels: {a: b}}, portLevelMtls: {65536: {}}}",
                    "spec.portLevelMtls[65536]: is not a port",
                ),
                ("{mtls: {mode: STRICTT}}", "spec.mtls.mode: is not a known word (found `STRICTT`; "),
                ("{mtls: {mode: strict}}", "did you mean `STRICT`?"),
                (
                    "{mtls: {mod: STRICT}}",
                    "spec.mtls.mod: is not a field of this object (did you mean `mode`?)",
                ),
                ("{mtls: STRICT}", "spec.mtls: has the wrong type (found `STRICT`; expected an object)"),
                ("{mtlss: {mode: STRICT}}", "did you mean `mtls`?"),
                (
                    "{selector: {}}",
                    "spec.selector: names no label, so every workload of the namespace is meant",
                ),
                (
                    "{selector: {matchLabels: {app: 'web*'}}}",
                    "matchLabels[app]: is not a label value (found `web*`",
                ),
            ],
            text,
        );
    }
}
