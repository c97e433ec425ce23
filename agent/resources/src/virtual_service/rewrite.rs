//! Changes of path and authority on the way to a destination.

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    expression::check_regex,
    finding::Problem,
};

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
