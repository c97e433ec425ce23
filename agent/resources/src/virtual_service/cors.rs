//! Which origins may call.

use std::{str::FromStr, time::Duration};

use super::{StringMatch, check_one_of, headers::is_token};
use crate::{
    Path,
    decode::{Context, Decode, Fields, Shape, word},
    finding::Problem,
    yaml::Node,
};

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
            context.error(
                &at.field("maxAge"),
                Problem::new("is not a whole number of seconds").expected("such as `600s`"),
            );
        }
        let origins = at.field("allowOrigins");
        for (index, origin) in self.allow_origins.iter().enumerate() {
            let at = origins.index(index);
            if *origin == StringMatch::Present || origin.is_any_value() {
                let problem = Problem::new("names no origin");
                context.error(&at, problem.expected("`exact`, `prefix` or `regex`; `exact: '*'` for any"));
            }
        }
        let methods = at.field("allowMethods");
        for (index, method) in self.allow_methods.iter().enumerate() {
            check_one_of(Some(method), &METHODS, &methods.index(index), context);
        }
        let lists = [("allowHeaders", &self.allow_headers), ("exposeHeaders", &self.expose_headers)];
        for (name, list) in lists {
            let field = at.field(name);
            for (index, text) in list.iter().enumerate().filter(|(_, text)| !is_token(text)) {
                let problem = Problem::new("is not a header name").found(text);
                context.error(&field.index(index), problem.expected("letters, digits and `-`"));
            }
        }
    }
}

/// The methods that Istio takes in `allowMethods`.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

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
