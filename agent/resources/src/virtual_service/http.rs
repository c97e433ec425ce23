//! HTTP rules: which requests, and what to do with them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    CorsPolicy, Delegate, Destination, DirectResponse, Fault, GatewayRef, Headers, Mirror, Percent, Redirect,
    Retries, Rewrite, check_header_name, rewrite::check_prefixes,
};
use crate::{
    Labels, Path,
    decode::{Context, Fields, PortNumber, Shape},
    expression::check_regex,
    finding::{Problem, Rule},
    host,
    labels::check_labels,
};

/// A rule for HTTP requests (`HTTPRoute`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRoute {
    /// Name, for the access log.
    pub name: Option<String>,
    /// Requests the rule is for, any one of these; empty means all.
    pub matches: Vec<HttpMatch>,
    /// Destinations, chosen among by weight.
    pub route: Vec<RouteDestination>,
    /// Answer with a redirect.
    pub redirect: Option<Redirect>,
    /// Answer with a fixed response.
    pub direct_response: Option<DirectResponse>,
    /// Leave the rule to another VirtualService.
    pub delegate: Option<Delegate>,
    /// Change path or authority on the way.
    pub rewrite: Option<Rewrite>,
    /// Longest time a request may take; zero or absent means no limit.
    pub timeout: Option<Duration>,
    /// Retry policy.
    pub retries: Option<Retries>,
    /// Faults to inject.
    pub fault: Option<Fault>,
    /// Where copies of the requests go.
    pub mirrors: Vec<Mirror>,
    /// Cross-origin policy.
    pub cors_policy: Option<CorsPolicy>,
    /// Header changes.
    pub headers: Option<Headers>,
}

impl Shape for HttpRoute {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            name: fields.optional("name"),
            matches: fields.or_default("match"),
            route: fields.or_default("route"),
            redirect: fields.optional("redirect"),
            direct_response: fields.optional("directResponse"),
            delegate: fields.optional("delegate"),
            rewrite: fields.optional("rewrite"),
            timeout: fields.optional("timeout"),
            retries: fields.optional("retries"),
            fault: fields.optional("fault"),
            mirrors: read_mirrors(fields),
            cors_policy: fields.optional("corsPolicy"),
            headers: fields.optional("headers"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        self.check_action(at, context);
        check_weights(self.route.iter().map(|destination| destination.weight), &at.field("route"), context);
        let answered = if self.redirect.is_some() { "redirect" } else { "directResponse" };
        if self.redirect.is_some() || self.direct_response.is_some() {
            for (written, field) in [(self.fault.is_some(), "fault"), (self.rewrite.is_some(), "rewrite")] {
                if written {
                    let problem = Problem::new(format!("cannot be combined with `{answered}`"));
                    context.error(&at.field(field), problem.remedy("remove one of the two"));
                }
            }
        }
        self.check_redirect_prefix(at, context);
        check_prefixes(self, at, context);
        self.check_authority(at, context);
    }
}

impl HttpRoute {
    fn check_action(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let actions = [
            (!self.route.is_empty(), "route"),
            (self.redirect.is_some(), "redirect"),
            (self.direct_response.is_some(), "directResponse"),
            (self.delegate.is_some(), "delegate"),
        ];
        let used: Vec<_> = actions.into_iter().filter(|(used, _)| *used).map(|(_, name)| name).collect();
        let expected = "one of `route`, `redirect`, `directResponse` and `delegate`";
        match used.as_slice() {
            [_] => {}
            [] => context.error(at, Problem::new("says nothing to do").expected(expected)),
            several => {
                let problem = Problem::new("says several things to do").found(several.join(", "));
                context.error(at, problem.expected(expected));
            }
        }
    }

    /// The authority is set once. That of a destination comes before the rule's in Istio, which takes both.
    fn check_authority(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let rewritten = self.rewrite.as_ref().is_some_and(|rewrite| rewrite.authority.is_some());
        let by_headers = self.headers.as_ref().and_then(Headers::authority_field);
        let headers = at.field("headers");
        let of_rule = match (rewritten, by_headers) {
            (true, Some(field)) => {
                let problem = Problem::new("sets the authority, as `rewrite.authority` does");
                let request = headers.field("request");
                return context.error(&request.field(field), problem.remedy("remove one of the two"));
            }
            (true, None) => "`rewrite.authority`",
            (false, Some(_)) => "that of the rule's `headers`",
            (false, None) => return,
        };
        let list = at.field("route");
        for (index, to) in self.route.iter().enumerate() {
            let Some(field) = to.headers.as_ref().and_then(Headers::authority_field) else { continue };
            let (item, problem) = (
                list.index(index),
                Problem::new(format!("sets the authority, so {of_rule} has no effect for this destination")),
            );
            let headers = item.field("headers");
            let request = headers.field("request");
            context.warning(Rule::Conflict, &request.field(field), problem.remedy("remove one of the two"));
        }
    }

    fn check_redirect_prefix(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let rewrites_prefix =
            self.redirect.as_ref().is_some_and(|redirect| redirect.prefix_rewrite.is_some());
        let by_prefix = |m: &HttpMatch| matches!(m.uri, Some(StringMatch::Prefix(_)));
        if rewrites_prefix && !self.matches.iter().all(by_prefix) {
            let problem = Problem::new("needs every match to be by prefix");
            let redirect = at.field("redirect");
            context.error(
                &redirect.field("prefixRewrite"),
                problem.remedy("use `uri` to replace the whole path"),
            );
        }
    }
}

/// Several destinations share by weight, so at least one weight must be positive.
pub(super) fn check_weights(
    weights: impl ExactSizeIterator<Item = i32>,
    at: &Path<'_>,
    context: &mut Context<'_>,
) {
    let (count, mut sum) = (weights.len(), 0i64);
    for (index, weight) in weights.enumerate() {
        sum += i64::from(weight);
        if weight < 0 {
            let item = at.index(index);
            context.error(
                &item.field("weight"),
                Problem::new("is negative").found(weight).expected("0 or more"),
            );
        }
    }
    if count > 1 && sum == 0 {
        let problem = Problem::new("has only destinations of weight 0");
        context.error(at, problem.expected("a positive `weight` for at least one of them"));
    }
}

fn read_mirrors(fields: &mut Fields<'_, '_, '_>) -> Vec<Mirror> {
    let mirror: Option<Destination> = fields.optional("mirror");
    let percentage: Option<Percent> = fields.optional("mirrorPercentage");
    let whole = Percent::read_whole("mirrorPercent", "mirrorPercentage", fields);
    let several: Option<Vec<Mirror>> = fields.optional("mirrors");
    if mirror.is_some() && several.is_some() {
        fields.error("mirrors", Problem::new("is written beside `mirror`").remedy("use only `mirrors`"));
    }
    let percentage = percentage.or(whole);
    let single = mirror.map(|destination| Mirror { destination, percentage });
    single.into_iter().chain(several.unwrap_or_default()).collect()
}

/// A destination with its share (`HTTPRouteDestination`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RouteDestination {
    /// Where to.
    pub destination: Destination,
    /// Share relative to the sum of all; ignored for a single destination.
    pub weight: i32,
    /// Header changes for this destination.
    pub headers: Option<Headers>,
}

impl Shape for RouteDestination {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            destination: fields.required("destination"),
            weight: fields.or_default("weight"),
            headers: fields.optional("headers"),
        }
    }
}

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
        let _: Option<String> = fields.planned("statPrefix");
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

/// A condition on text (`StringMatch`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum StringMatch {
    /// There at all (`{}`).
    #[default]
    Present,
    /// This text.
    Exact(String),
    /// This text at the beginning.
    Prefix(String),
    /// RE2 expression for the whole text.
    Regex(String),
}

impl StringMatch {
    /// Whether it is `regex: '*'`, which is no expression but means any value of a header or parameter.
    pub(super) fn is_any_value(&self) -> bool {
        matches!(self, Self::Regex(text) if text == "*")
    }
}

impl Shape for StringMatch {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        fields.refuse_unknown();
        let exact: Option<String> = fields.optional("exact");
        let prefix: Option<String> = fields.optional("prefix");
        let regex: Option<String> = fields.optional("regex");
        let written = [exact.is_some(), prefix.is_some(), regex.is_some()];
        if written.into_iter().filter(|written| *written).count() > 1 {
            fields.error_here(
                Problem::new("has several conditions").expected("one of `exact`, `prefix` and `regex`"),
            );
        }
        match (exact, prefix, regex) {
            (Some(text), ..) => Self::Exact(text),
            (_, Some(text), _) => Self::Prefix(text),
            (.., Some(text)) => Self::Regex(text),
            _ => Self::Present,
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        match self {
            Self::Prefix(text) if text.is_empty() => {
                context.error(
                    &at.field("prefix"),
                    Problem::new("is empty").expected("the beginning of the text"),
                );
            }
            Self::Regex(text) if !self.is_any_value() => check_regex(text, &at.field("regex"), context),
            _ => {}
        }
    }
}
