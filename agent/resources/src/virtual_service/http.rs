//! HTTP rules: which requests, and what to do with them.

use std::time::Duration;

use super::{
    CorsPolicy, Delegate, Destination, DirectResponse, Fault, Headers, HttpMatch, Mirror, Percent, Redirect,
    Retries, Rewrite, StringMatch, rewrite::check_prefixes,
};
use crate::{
    Path,
    decode::{Context, Fields, Shape},
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
