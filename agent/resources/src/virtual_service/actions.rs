//! What a rule does to requests besides sending them on.

use std::{str::FromStr, time::Duration};

use super::{Destination, StringMatch};
use crate::{
    Labels, Path,
    decode::{Context, Decode, Fields, PortNumber, Shape, word},
    expression::check_regex,
    finding::{Problem, Rule},
    yaml::Node,
};

/// A fixed answer (`HTTPDirectResponse`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DirectResponse {
    /// Status code, 200–599.
    pub status: u16,
    /// Body; may be empty. At most 1 MiB.
    pub body: String,
}

impl Shape for DirectResponse {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let status: u32 = fields.required("status");
        let body: Option<HttpBody> = fields.optional("body");
        // Out of range becomes 0, which `check` refuses.
        Self { status: u16::try_from(status).unwrap_or_default(), body: body.unwrap_or_default().0 }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_status(self.status.into(), 200..=599, &at.field("status"), context);
        let size = self.body.len();
        if size > 1 << 20 {
            let problem = Problem::new("is too large").found(format!("{size} bytes"));
            context.error(&at.field("body"), problem.expected("at most 1 MiB"));
        } else if size > 100 << 10 {
            let problem = Problem::new("is large").found(format!("{size} bytes"));
            context.warning(
                Rule::Invalid,
                &at.field("body"),
                problem.remedy("every answer carries it: keep it short"),
            );
        }
    }
}

#[derive(Default)]
struct HttpBody(String);

impl Shape for HttpBody {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let _: Option<String> = fields.planned("bytes");
        Self(fields.or_default("string"))
    }
}

/// A redirect (`HTTPRedirect`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redirect {
    /// New path.
    pub uri: Option<String>,
    /// Replacement of the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// New host.
    pub authority: Option<String>,
    /// New port.
    pub port: Option<u16>,
    /// Where the port is taken from: `FROM_PROTOCOL_DEFAULT` or `FROM_REQUEST_PORT`.
    pub derive_port: Option<String>,
    /// New scheme, `http` or `https`.
    pub scheme: Option<String>,
    /// Status code; 301 when absent.
    pub redirect_code: Option<u32>,
}

impl Shape for Redirect {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let port: Option<PortNumber> = fields.optional("port");
        Self {
            uri: fields.optional("uri"),
            prefix_rewrite: fields.optional("prefixRewrite"),
            authority: fields.optional("authority"),
            port: port.map(PortNumber::get),
            derive_port: fields.optional("derivePort"),
            scheme: fields.optional("scheme"),
            redirect_code: fields.optional("redirectCode"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            context.error(at, Problem::new("is empty").expected("at least one thing to change"));
        }
        if self.uri.is_some() && self.prefix_rewrite.is_some() {
            context.error(at, Problem::new("has both `uri` and `prefixRewrite`").expected("one of them"));
        }
        if self.port.is_some() && self.derive_port.is_some() {
            context.error(at, Problem::new("has both `port` and `derivePort`").expected("one of them"));
        }
        check_one_of(self.scheme.as_deref(), &["http", "https"], &at.field("scheme"), context);
        let ways = ["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"];
        check_one_of(self.derive_port.as_deref(), &ways, &at.field("derivePort"), context);
        if let Some(code) = self.redirect_code.filter(|code| !matches!(code, 301 | 302 | 303 | 307 | 308)) {
            let problem = Problem::new("is not a redirect").found(code).expected("301, 302, 303, 307 or 308");
            context.error(&at.field("redirectCode"), problem);
        }
    }
}

/// Another VirtualService that the rule is left to (`Delegate`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; absent means the same.
    pub namespace: Option<String>,
}

impl Shape for Delegate {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { name: fields.required("name"), namespace: fields.optional("namespace") }
    }
}

/// Changes of path and authority (`HTTPRewrite`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rewrite {
    /// Replacement of the matched path or prefix.
    pub uri: Option<String>,
    /// Replacement of the authority.
    pub authority: Option<String>,
    /// Replacement by expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

impl Shape for Rewrite {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            uri: fields.optional("uri"),
            authority: fields.optional("authority"),
            uri_regex_rewrite: fields.optional("uriRegexRewrite"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            let expected = "`uri`, `uriRegexRewrite` or `authority`";
            context.error(at, Problem::new("is empty").expected(expected));
        }
        if self.uri.is_some() && self.uri_regex_rewrite.is_some() {
            context.error(at, Problem::new("has both `uri` and `uriRegexRewrite`").expected("one of them"));
        }
    }
}

/// Replacement of every match of an expression (`RegexRewrite`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegexRewrite {
    /// RE2 expression.
    pub expression: String,
    /// Replacement; `\1` stands for a group.
    pub rewrite: String,
}

impl Shape for RegexRewrite {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { expression: fields.required("match"), rewrite: fields.required("rewrite") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        check_regex(&self.expression, &at.field("match"), context);
    }
}

/// When and how often to try again (`HTTPRetry`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retries {
    /// Number of further tries; 0 turns retrying off.
    pub attempts: i32,
    /// Longest time of one try.
    pub per_try_timeout: Option<Duration>,
    /// Conditions, comma-separated; Istio's default when absent.
    pub retry_on: Option<String>,
    /// Whether other localities may be tried.
    pub retry_remote_localities: Option<bool>,
    /// Whether hosts already tried are avoided.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Shortest pause between tries.
    pub backoff: Option<Duration>,
}

/// The conditions that `retryOn` may name, besides status codes.
pub const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

impl Shape for Retries {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            attempts: fields.or_default("attempts"),
            per_try_timeout: fields.optional("perTryTimeout"),
            retry_on: fields.optional("retryOn"),
            retry_remote_localities: fields.optional("retryRemoteLocalities"),
            retry_ignore_previous_hosts: fields.optional("retryIgnorePreviousHosts"),
            backoff: fields.optional("backoff"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.attempts < 0 {
            let problem = Problem::new("is negative").found(self.attempts).expected("0 or more");
            context.error(&at.field("attempts"), problem);
        }
        if self.attempts == 0 && *self != Self::default() {
            let problem =
                Problem::new("is 0 or missing, which turns retries off, yet other settings are written");
            context.error(&at.field("attempts"), problem.expected("1 or more"));
        }
        for word in self.retry_on.iter().flat_map(|words| words.split(',')).map(str::trim) {
            let status = word.parse::<u16>().is_ok_and(|code| (100..=599).contains(&code));
            if !status {
                check_one_of(Some(word), &RETRY_ON, &at.field("retryOn"), context);
            }
        }
    }
}

/// Faults to inject (`HTTPFaultInjection`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Delay before the request is sent on.
    pub delay: Option<FaultDelay>,
    /// Answer instead of sending it on.
    pub abort: Option<FaultAbort>,
}

/// `HTTPFaultInjection.Delay`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultDelay {
    /// Share of requests; absent means none.
    pub percentage: Option<Percent>,
    /// How long.
    pub fixed_delay: Option<Duration>,
}

/// `HTTPFaultInjection.Abort`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultAbort {
    /// Share of requests; absent means none.
    pub percentage: Option<Percent>,
    /// Status code, 200–599.
    pub http_status: Option<u32>,
    /// gRPC status by name.
    pub grpc_status: Option<String>,
}

impl Shape for Fault {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { delay: fields.optional("delay"), abort: fields.optional("abort") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if *self == Self::default() {
            context.error(at, Problem::new("is empty").expected("`delay` or `abort`"));
        }
    }
}

impl Shape for FaultDelay {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let percent: Option<u32> = fields.deprecated("percent", "percentage.value");
        let _: Option<Duration> = fields.unsupported("exponentialDelay", "fixedDelay");
        let percentage = fields.optional("percentage").or(percent.map(|p| Percent { value: f64::from(p) }));
        Self { percentage, fixed_delay: fields.required_some("fixedDelay") }
    }
}

impl Shape for FaultAbort {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let _: Option<String> = fields.unsupported("http2Error", "httpStatus");
        Self {
            percentage: fields.optional("percentage"),
            http_status: fields.optional("httpStatus"),
            grpc_status: fields.optional("grpcStatus"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if let Some(status) = self.http_status {
            check_status(status, 200..=599, &at.field("httpStatus"), context);
        }
        check_one_of(self.grpc_status.as_deref(), &GRPC_STATUS, &at.field("grpcStatus"), context);
        match (self.http_status.is_some(), self.grpc_status.is_some()) {
            (true, true) => context
                .error(at, Problem::new("has both `httpStatus` and `grpcStatus`").expected("one of them")),
            (false, false) => {
                context.warning(Rule::Invalid, at, Problem::new("has no status and aborts nothing"));
            }
            _ => {}
        }
    }
}

/// The names of gRPC status codes, each at the place of its number.
pub const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Where copies of requests go (`HTTPMirrorPolicy`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mirror {
    /// Receives the copies.
    pub destination: Destination,
    /// Share of requests; absent means all.
    pub percentage: Option<Percent>,
}

impl Shape for Mirror {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { destination: fields.required("destination"), percentage: fields.optional("percentage") }
    }
}

/// A share of requests, 0–100 (`Percent`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percent {
    /// Percent, in steps of 0.0001.
    pub value: f64,
}

impl Shape for Percent {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { value: fields.or_default("value") }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        let too_small = self.value > 0.0 && self.value < 0.0001;
        if !(0.0..=100.0).contains(&self.value) || too_small {
            let problem = Problem::new("is no percentage").found(self.value).expected("0, or 0.0001–100");
            context.error(&at.field("value"), problem);
        }
    }
}

/// Cross-origin policy (`CorsPolicy`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CorsPolicy {
    /// Origins let in.
    pub allow_origins: Vec<StringMatch>,
    /// Methods let in.
    pub allow_methods: Vec<String>,
    /// Request headers let in.
    pub allow_headers: Vec<String>,
    /// Response headers shown to scripts.
    pub expose_headers: Vec<String>,
    /// How long a preflight answer may be kept.
    pub max_age: Option<Duration>,
    /// Whether credentials may be sent.
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

impl Shape for CorsPolicy {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let old: Option<Vec<String>> = fields.deprecated("allowOrigin", "allowOrigins");
        let mut allow_origins: Vec<StringMatch> = fields.or_default("allowOrigins");
        allow_origins.extend(old.into_iter().flatten().map(StringMatch::Exact));
        Self {
            allow_origins,
            allow_methods: fields.or_default("allowMethods"),
            allow_headers: fields.or_default("allowHeaders"),
            expose_headers: fields.or_default("exposeHeaders"),
            max_age: fields.optional("maxAge"),
            allow_credentials: fields.optional("allowCredentials"),
            unmatched_preflights: fields.or_default("unmatchedPreflights"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        if self.max_age.is_some_and(|age| age.subsec_millis() != 0) {
            context.error(&at.field("maxAge"), Problem::new("is not a whole number of seconds"));
        }
        let lists = [
            ("allowMethods", &self.allow_methods),
            ("allowHeaders", &self.allow_headers),
            ("exposeHeaders", &self.expose_headers),
        ];
        for (name, list) in lists {
            let field = at.field(name);
            for (index, text) in list.iter().enumerate().filter(|(_, text)| !is_token(text)) {
                let problem = Problem::new("is not a header or method name").found(text);
                context.error(&field.index(index), problem.expected("letters, digits and `-`"));
            }
        }
    }
}

/// `CorsPolicy.UnmatchedPreflights`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnmatchedPreflights {
    /// Sent on.
    #[default]
    Forward,
    /// Answered 200 without permission.
    Ignore,
}

impl FromStr for UnmatchedPreflights {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "FORWARD" | "UNSPECIFIED" => Ok(Self::Forward),
            "IGNORE" => Ok(Self::Ignore),
            _ => Err(()),
        }
    }
}

impl Decode for UnmatchedPreflights {
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        word(node, &["UNSPECIFIED", "FORWARD", "IGNORE"], at, context)
    }
}

/// Header changes on the way there and back (`Headers`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers {
    /// Changes of the request.
    pub request: HeaderOperations,
    /// Changes of the response.
    pub response: HeaderOperations,
}

impl Shape for Headers {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self { request: fields.or_default("request"), response: fields.or_default("response") }
    }
}

/// `Headers.HeaderOperations`; removal comes first, then `set`, then `add`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderOperations {
    /// Headers that get this value and no other.
    pub set: Labels,
    /// Headers that get a further line.
    pub add: Labels,
    /// Headers taken away.
    pub remove: Vec<String>,
}

impl Shape for HeaderOperations {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        Self {
            set: fields.or_default("set"),
            add: fields.or_default("add"),
            remove: fields.or_default("remove"),
        }
    }

    fn check(&self, at: &Path<'_>, context: &mut Context<'_>) {
        for (field, map) in [("set", &self.set), ("add", &self.add)] {
            let field = at.field(field);
            for (name, value) in map {
                check_header_name(name, &field.key(name), context);
                if value.contains(['\r', '\n', '\0']) {
                    let problem = Problem::new("holds a line break or NUL").found(value);
                    context.error(&field.key(name), problem.expected("one line of text"));
                }
            }
        }
        let remove = at.field("remove");
        for (index, name) in self.remove.iter().enumerate() {
            let at = remove.index(index);
            check_header_name(name, &at, context);
            if matches!(name.to_ascii_lowercase().as_str(), "host" | ":authority") {
                context.error(&at, Problem::new("cannot be removed").found(name));
            }
        }
    }
}

pub(crate) fn check_header_name(name: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if name != ":authority" && !is_token(name) {
        let problem = Problem::new("is not a header name").found(name);
        context.error(at, problem.expected("letters, digits and `-`"));
    }
}

/// A token of RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    let mark = |c: char| "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || mark(c))
}

fn check_one_of(word: Option<&str>, words: &[&'static str], at: &Path<'_>, context: &mut Context<'_>) {
    if let Some(word) = word.filter(|word| !words.contains(word)) {
        let problem = Problem::new("is not a known word").found(word).expected(words.join(", "));
        let problem = match crate::suggest::nearest(word, words.iter().copied()) {
            Some(near) => problem.remedy(format!("did you mean `{near}`?")),
            None => problem,
        };
        context.error(at, problem);
    }
}

fn check_status(status: u32, range: std::ops::RangeInclusive<u32>, at: &Path<'_>, context: &mut Context<'_>) {
    if !range.contains(&status) {
        let problem = Problem::new("is no status code that can be sent").found(status);
        context.error(at, problem.expected(format!("{}–{}", range.start(), range.end())));
    }
}
