//! HTTP rules: which requests, and what to do with them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    CorsPolicy, Delegate, Destination, DirectResponse, Fault, GatewayRef, Headers, Mirror, Percent, Redirect,
    Retries, Rewrite,
};
use crate::{
    Labels, Path,
    decode::{Context, Fields, PortNumber, Shape},
    finding::{Problem, Rule},
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
        const ANSWERED: &str = "is not supported yet: requests are answered 501";
        Self {
            name: fields.optional("name"),
            matches: fields.or_default("match"),
            route: fields.or_default("route"),
            redirect: fields.not_yet("redirect", ANSWERED),
            direct_response: fields.optional("directResponse"),
            delegate: fields.not_yet("delegate", ANSWERED),
            rewrite: fields.planned("rewrite"),
            timeout: fields.planned("timeout"),
            retries: fields.planned("retries"),
            fault: fields.planned("fault"),
            mirrors: read_mirrors(fields),
            cors_policy: fields.planned("corsPolicy"),
            headers: fields.planned("headers"),
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
    let mirror: Option<Destination> = fields.planned("mirror");
    let percentage: Option<Percent> = fields.optional("mirrorPercentage");
    let whole: Option<u32> = fields.deprecated("mirrorPercent", "mirrorPercentage");
    let several: Option<Vec<Mirror>> = fields.planned("mirrors");
    if mirror.is_some() && several.is_some() {
        fields.error("mirrors", Problem::new("is written beside `mirror`").remedy("use only `mirrors`"));
    }
    let percentage = percentage.or(whole.map(|percent| Percent { value: f64::from(percent) }));
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
            headers: fields.planned("headers"),
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
    /// Whether some condition is read but cannot be tested yet, so that the match must be left out: dropping only the
    /// condition would let in requests the author shut out.
    pub fn is_beyond_support(&self) -> bool {
        let strings = [&self.scheme, &self.method, &self.authority];
        self.ignore_uri_case
            || strings.into_iter().any(Option::is_some)
            || matches!(self.uri, Some(StringMatch::Regex(_)))
            || !(self.headers.is_empty() && self.without_headers.is_empty() && self.query_params.is_empty())
    }
}

impl Shape for HttpMatch {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        const THIS: &str = "the match";
        fields.refuse_unknown();
        let port: Option<PortNumber> = fields.optional("port");
        let _: Option<String> = fields.planned("statPrefix");
        Self {
            name: fields.optional("name"),
            uri: fields.optional("uri"),
            ignore_uri_case: fields.leaves_out("ignoreUriCase", THIS).unwrap_or_default(),
            scheme: fields.leaves_out("scheme", THIS),
            method: fields.leaves_out("method", THIS),
            authority: fields.leaves_out("authority", THIS),
            headers: fields.leaves_out("headers", THIS).unwrap_or_default(),
            without_headers: fields.leaves_out("withoutHeaders", THIS).unwrap_or_default(),
            query_params: fields.leaves_out("queryParams", THIS).unwrap_or_default(),
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
        }
        if matches!(self.uri, Some(StringMatch::Regex(_))) {
            let problem = Problem::new("is not supported yet: the match is left out");
            let uri = at.field("uri");
            context.warning(Rule::NotSupported, &uri.field("regex"), problem);
        }
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
            Self::Regex(text) if text.is_empty() || text.len() > LONGEST_REGEX => {
                let problem =
                    Problem::new("has a length out of range").found(format!("{} bytes", text.len()));
                context.error(&at.field("regex"), problem.expected(format!("1–{LONGEST_REGEX}")));
            }
            _ => {}
        }
    }
}

const LONGEST_REGEX: usize = 1024;
