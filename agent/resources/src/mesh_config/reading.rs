//! Reading the mesh-wide settings: everything that can be read of them, and what cannot.

use std::sync::Arc;

use super::{MeshConfig, OutboundTrafficPolicy};
use crate::{
    Path,
    decode::{Context, Decode, Findings},
    finding::{Finding, Place, Problem, Rule, Severity},
    yaml,
};

/// Mesh-wide settings as far as they could be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MeshReading {
    /// What is readable; the rest has its default. An `outboundTrafficPolicy` that cannot be read, or a text of which
    /// nothing can, is `REGISTRY_ONLY`: a mistake must not open what was to be closed.
    pub config: MeshConfig,
    /// What is wrong, and what is not acted on.
    pub findings: Vec<Finding>,
}

impl MeshReading {
    /// The settings, unless something in them is wrong.
    pub fn whole(&self) -> Option<&MeshConfig> {
        let is_wrong = self.findings.iter().any(|finding| finding.severity == Severity::Error);
        (!is_wrong).then_some(&self.config)
    }
}

impl MeshConfig {
    /// Reads a YAML or JSON text holding one `MeshConfig`; `source_name` is what findings call it. An empty text is
    /// the default. Fields that are not acted on are warned about.
    pub fn read(source_name: &str, text: &str) -> MeshReading {
        let (mut config, findings) = document::<Self>(&source_name.into(), text, "one MeshConfig");
        if findings.iter().any(leaves_calls_open) {
            config.outbound_traffic_policy = OutboundTrafficPolicy::RegistryOnly;
        }
        config.defaults.export_to.leave_out(|field| findings.iter().any(|finding| is_wrong(finding, field)));
        MeshReading { config, findings }
    }
}

/// Whether this is a mistake in a field.
fn is_wrong(finding: &Finding, field: &str) -> bool {
    finding.severity == Severity::Error && finding.path.starts_with(field)
}

/// Whether a mistake may hide that calls to unknown hosts were to be refused.
fn leaves_calls_open(finding: &Finding) -> bool {
    is_wrong(finding, if finding.path.is_empty() { "" } else { "outboundTrafficPolicy" })
}

/// What a text holds, and what is wrong with it. An empty text is the default.
pub(super) fn document<T: Decode>(file: &Arc<str>, text: &str, expected: &str) -> (T, Vec<Finding>) {
    let mut findings = Findings::default();
    let mut read = T::default();
    for (index, document) in yaml::documents(text).enumerate() {
        match document {
            Ok(node) if index == 0 => {
                let mut context = Context::new(file, &mut findings, node.position);
                context.leaves_out = true;
                read = T::decode(&node, &Path::ROOT, &mut context);
            }
            Ok(node) => {
                let place = Place::whole(file.clone()).at(node.position);
                findings.push(refused(place, Problem::new("more than one document").expected(expected)));
            }
            Err(error) => {
                findings.push(refused(Place::whole(file.clone()).at(error.position), error.problem));
            }
        }
    }
    (read, findings.into_list(file))
}

fn refused(place: Place, problem: Problem) -> Finding {
    let (severity, rule) = (Severity::Error, Rule::Syntax);
    Finding { severity, rule, place: Some(place), resource: None, path: String::new(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccessLogEncoding;

    #[test]
    fn a_bad_field_costs_only_itself() {
        let text = "accessLogFile: /dev/stdout\naccessLogEncoding: XML\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";
        let reading = MeshConfig::read("mesh.yaml", text);
        assert_eq!(reading.whole(), None);
        assert_eq!(reading.config.access_log_file.as_deref(), Some("/dev/stdout"));
        assert_eq!(reading.config.access_log_encoding, AccessLogEncoding::Text);
        assert_eq!(reading.config.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
        let told = reading.findings[0].to_string();
        assert!(
            told.starts_with("mesh.yaml:2:20: accessLogEncoding: is not a known word (found `XML`"),
            "{told}"
        );
    }

    #[test]
    fn what_cannot_be_used_counts_as_if_it_were_not_written() {
        for wrong in [
            "connectTimeout: 5",
            "connectTimeout: -5s",
            "connectTimeout: ''",
            "connectTimeout: 0s",
            "tcpKeepalive: {time: 5}",
            "tcpKeepalive: {interval: 0s}",
            "tcpKeepalive: {probes: x}",
            "defaultTrafficPolicy: {connectionPool: {tcp: {connectTimeout: 5, tcpKeepalive: {time: x}}}}",
            "defaultServiceExportTo: ['']",
            "defaultVirtualServiceExportTo: ['']",
            "defaultVirtualServiceExportTo: [5]",
            "defaultDestinationRuleExportTo: ['', '*']",
        ] {
            let MeshReading { mut config, findings } = MeshConfig::read("mesh.yaml", wrong);
            assert!(!findings.is_empty(), "{wrong}");
            let (tcp, keepalive) = (crate::TcpPool::default(), Some(crate::TcpKeepalive::default()));
            if let Some(pool) = config.default_traffic_policy.connection_pool.take() {
                assert!(
                    pool.tcp == tcp || pool.tcp == crate::TcpPool { tcp_keepalive: keepalive, ..tcp },
                    "{wrong}"
                );
            }
            assert_eq!(config, MeshConfig::default(), "{wrong}");
        }
    }

    #[test]
    fn calls_to_unknown_hosts_are_refused_while_nobody_knows_whether_they_may_be_made() {
        let policy = |text: &str| MeshConfig::read("mesh.yaml", text).config.outbound_traffic_policy;
        for closed in
            ["outboundTrafficPolicy: {mode: NO}", "outboundTrafficPolicy: 1", "[", "- a", "{}\n---\n{}"]
        {
            assert_eq!(policy(closed), OutboundTrafficPolicy::RegistryOnly, "{closed}");
        }
        for open in ["", "accessLogEncoding: XML", "outboundTrafficPolicy: {mode: ALLOW_ANY}"] {
            assert_eq!(policy(open), OutboundTrafficPolicy::AllowAny, "{open}");
        }
    }
}
