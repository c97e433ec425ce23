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

    /// The limit where the environment says `variable`, in Istio's order; zero says nothing in any of them.
    #[must_use]
    pub fn beside(self, variable: Option<u64>) -> Option<u64> {
        [self.setting, variable, self.runtime].into_iter().flatten().find(|limit| *limit > 0)
    }
}

/// `ProxyConfig.runtimeValues`, of which Envoy's former name of the limit is acted on.
#[derive(Default)]
pub(super) struct RuntimeValues(pub(super) Option<u64>);

impl Shape for RuntimeValues {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let limit: Option<NumberText> = fields.optional("overload.global_downstream_max_connections");
        fields.planned_rest();
        Self(limit.and_then(|NumberText(limit)| limit))
    }
}

/// A number in a map of texts; `None` where it is none, for a mistake must not limit anything.
#[derive(Default)]
struct NumberText(Option<u64>);

impl Decode for NumberText {
    const FORM: &'static str = "a number in quotes";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let number = node.text().and_then(|text| text.parse().ok());
        if number.is_none() {
            let problem = Problem::new("is not a number").found(node.describe());
            context.error(at, problem.expected("such as `\"5000\"`"));
        }
        Self(number)
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
    fn zero_and_mistakes_limit_nothing() {
        let old =
            |value: &str| format!("runtimeValues: {{overload.global_downstream_max_connections: {value}}}");
        assert_eq!((read(&old("\"0\"")).0, read(&old("5k")).0, read(&old("\"-1\"")).0), (None, None, None));
        let new = ProxyConfig::read("a", "connectionSettings: {globalDownstreamConnectionLimit: 0}").0;
        assert_eq!(new.connection_limit.beside(None), None);
        assert_eq!(new.connection_limit.beside(Some(0)), None);
        let both = ProxyConfig::read("a", &old("\"5\"")).0;
        assert_eq!(both.connection_limit.beside(Some(0)), Some(5));
    }

    #[test]
    fn what_has_no_effect_is_said_and_mistakes_have_a_place() {
        let (_, findings) = read("connectionSettings: {listenerConnectionLimit: 5}");
        assert!(findings[0].contains("connectionSettings.listenerConnectionLimit: is not"), "{findings:?}");
        let (_, findings) = read("runtimeValues: {overload.global_downstream_max_connections: many}");
        assert!(findings[0].contains("is not a number (found `many`; expected such as"), "{findings:?}");
    }
}
