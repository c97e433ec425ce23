//! How many connections from clients a proxy may have, in the two places where `ProxyConfig` says it.

use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape},
    finding::Problem,
    yaml::Node,
};

/// Connections from clients that a proxy may have, as far as it is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnectionLimit {
    /// `connectionSettings.globalDownstreamConnectionLimit`.
    pub(super) setting: Option<u64>,
    /// `runtimeValues`, under Envoy's former name.
    pub(super) runtime: Option<u64>,
}

impl ConnectionLimit {
    pub(super) fn over(self, base: Self) -> Self {
        Self { setting: self.setting.or(base.setting), runtime: self.runtime.or(base.runtime) }
    }

    /// The limit where the environment says `variable`, in Istio's order.
    #[must_use]
    pub fn beside(self, variable: Option<u64>) -> Option<u64> {
        self.setting.or(variable).or(self.runtime)
    }
}

/// `ProxyConfig.runtimeValues`, of which Envoy's former name of the limit is acted on.
#[derive(Default)]
pub(super) struct RuntimeValues(pub(super) Option<u64>);

impl Shape for RuntimeValues {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let limit = fields.optional("overload.global_downstream_max_connections");
        fields.planned_rest();
        Self(limit.map(|NumberText(limit)| limit))
    }
}

/// A number in a map of texts.
#[derive(Default)]
struct NumberText(u64);

impl Decode for NumberText {
    const FORM: &'static str = "a number in quotes";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let number = node.text().and_then(|text| text.parse().ok());
        Self(number.unwrap_or_else(|| {
            let problem = Problem::new("is not a number").found(node.describe());
            context.error(at, problem.expected("such as `\"5000\"`"));
            0
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::ProxyConfig;

    fn read(text: &str) -> (Option<u64>, Vec<String>) {
        let (config, findings) = ProxyConfig::read("PROXY_CONFIG", text);
        (config.connection_limit.beside(None), findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_newer_place_counts_before_the_variable_and_that_before_the_older() {
        let new = "connectionSettings: {globalDownstreamConnectionLimit: 7}";
        let old = "runtimeValues: {overload.global_downstream_max_connections: \"5\"}";
        assert_eq!((read(new).0, read(old).0, read("").0), (Some(7), Some(5), None));
        assert_eq!(read(&format!("{new}\n{old}\n")).0, Some(7));
        let of = |text: &str, variable| {
            ProxyConfig::read("PROXY_CONFIG", text).0.connection_limit.beside(variable)
        };
        assert_eq!((of(new, Some(6)), of(old, Some(6)), of("", Some(6))), (Some(7), Some(6), Some(6)));
        let over = ProxyConfig::read("a", old).0.overlaid_with(&ProxyConfig::read("b", new).0);
        assert_eq!(over.connection_limit.beside(None), Some(7));
    }

    #[test]
    fn what_has_no_effect_is_said_and_mistakes_have_a_place() {
        let (_, findings) = read("connectionSettings: {listenerConnectionLimit: 5}");
        assert!(findings[0].contains("connectionSettings.listenerConnectionLimit: is not"), "{findings:?}");
        let (_, findings) = read("runtimeValues: {overload.global_downstream_max_connections: many}");
        assert!(findings[0].contains("is not a number (found `many`; expected such as"), "{findings:?}");
    }
}
