//! Which requests a rule is for.

use std::collections::BTreeMap;

use super::{GatewayRef, StringMatch, check_header_name};

use crate::{
    Labels, Path,
    decode::{Context, Fields, PortNumber, Shape},
    finding::{Problem, Rule},
    host,
    labels::check_labels,
};

/// Conditions on a request, all of which must hold (`HTTPMatchRequest`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HttpMatch {
    /// Name, joined to the rule's name in the access log.
    pub name: Option<String>,
    /// Condition on the path without query.
    pub uri: Option<StringMatch>,
    /// Whether `uri` ignores case (exact and prefix only).
    pub ignore_uri_case: bool,
    /// Condition on the scheme.
    pub scheme: Option<StringMatch>,
    /// Condition on the method.
    pub method: Option<StringMatch>,
    /// Condition on the authority, port included.
    pub authority: Option<StringMatch>,
    /// Conditions on headers by name.
    pub headers: BTreeMap<String, StringMatch>,
    /// Conditions on headers that must not hold.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Conditions on the first value of query parameters.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Declared port of the server, or of the service in a sidecar.
    pub port: Option<u16>,
    /// Labels the proxy's workload must have.
    pub source_labels: Labels,
    /// Namespace the proxy's workload must be in.
    pub source_namespace: Option<String>,
    /// Gateways this match is for, instead of the VirtualService's.
    pub gateways: Vec<GatewayRef>,
    /// What its requests are counted under, besides; empty counts as absent.
    pub stat_prefix: Option<String>,
}

impl HttpMatch {
    /// Whether some condition is on the claims of a token, which nobody reads yet: the match must be left out, for
    /// dropping only the condition would let in requests the author shut out.
    pub fn reads_claims(&self) -> bool {
        self.headers.keys().chain(self.without_headers.keys()).any(|name| name.starts_with(CLAIMS))
    }

    /// Warns of what no path is or begins with.
    fn check_uri(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let (field, text) = match &self.uri {
            Some(StringMatch::Exact(text)) => ("exact", text),
            Some(StringMatch::Prefix(text)) => ("prefix", text),
            Some(StringMatch::Regex(_) | StringMatch::Present) | None => return,
        };
        let never = |why: &str| Problem::new(format!("can never match: {why}")).found(text);
        let problem = match text.find(|c: char| c.is_ascii_whitespace() || matches!(c, '?' | '#')) {
            Some(position) => match &text[position..=position] {
                "?" => never("the path ends before the `?`").remedy("use `queryParams` for what follows"),
                "#" => never("clients keep what follows a `#` to themselves").remedy("leave it out"),
                _ => never("clients write a blank as `%20`").remedy("write it so, too"),
            },
            // That is what OPTIONS may ask for.
            None if text.is_empty() || text.starts_with('/') || text == "*" => return,
            None => never("every path begins with `/`").remedy(format!("write `/{text}`")),
        };
        context.warning(Rule::Invalid, &at.field(field), problem);
    }

    fn check_header_conditions(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (field, conditions) in [("headers", &self.headers), ("withoutHeaders", &self.without_headers)] {
            let at = at.field(field);
            for name in conditions.keys() {
                let at = at.key(name);
                if name.starts_with(CLAIMS) {
                    let problem = Problem::new("is not supported yet: the match is left out");
                    let problem = problem.remedy("tell the requests apart by something else");
                    context.warning(Rule::NotSupported, &at, problem);
                } else if matches!(name.as_str(), "uri" | "scheme" | "method" | "authority") {
                    let problem = Problem::new(format!("is compared with a header named `{name}`"));
                    let remedy = format!("use `{name}` of the match for what HTTP calls so");
                    context.warning(Rule::Invalid, &at, problem.remedy(remedy));
                } else {
                    check_header_name(name, &at, context);
                }
            }
        }
    }
}

/// How conditions on the claims of a token are told from those on headers.
const CLAIMS: &str = "@request.auth.claims";

impl Shape for HttpMatch {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        let port: Option<PortNumber> = fields.optional("port");
        Self {
            name: fields.optional("name"),
            uri: fields.optional("uri"),
            ignore_uri_case: fields.or_default("ignoreUriCase"),
            scheme: fields.optional("scheme"),
            method: fields.optional("method"),
            authority: fields.optional("authority"),
            headers: fields.or_default("headers"),
            without_headers: fields.or_default("withoutHeaders"),
            query_params: fields.or_default("queryParams"),
            port: port.map(PortNumber::get),
            source_labels: fields.or_default("sourceLabels"),
            source_namespace: fields.optional("sourceNamespace"),
            gateways: fields.or_default("gateways"),
            stat_prefix: fields.optional("statPrefix").filter(|prefix: &String| !prefix.is_empty()),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let named = [
            ("uri", &self.uri),
            ("scheme", &self.scheme),
            ("method", &self.method),
            ("authority", &self.authority),
        ];
        for (name, condition) in named {
            if *condition == Some(StringMatch::Present) {
                let problem =
                    Problem::new("has no condition").expected("one of `exact`, `prefix` and `regex`");
                context.error(&at.field(name), problem);
            }
            if condition.as_ref().is_some_and(StringMatch::is_any_value) {
                let problem =
                    Problem::new("is no regular expression").found("*").expected("`.*` for any text");
                context.error(&at.field(name).field("regex"), problem);
            }
        }
        self.check_uri(&at.field("uri"), context);
        self.check_header_conditions(at, context);
        check_source(&self.source_labels, self.source_namespace.as_deref(), at, context);
    }
}

/// Workloads are told by labels and namespace as Kubernetes spells them.
pub(super) fn check_source(
    labels: &Labels,
    namespace: Option<&str>,
    at: &Path<'_>,
    context: &mut Context<'_>,
) {
    check_labels(labels, &at.field("sourceLabels"), context);
    if let Some(namespace) =
        namespace.filter(|namespace| !namespace.is_empty() && !host::is_namespace(namespace))
    {
        let problem = Problem::new("is not a namespace name").found(namespace);
        context.error(&at.field("sourceNamespace"), problem.expected("lower-case letters, digits and `-`"));
    }
}
