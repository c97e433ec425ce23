//! Changes of path and authority on the way to a destination.

use super::answer::check_visible;
use crate::{
    Path,
    decode::{Context, Fields, Shape},
    expression::{check_regex, group_count},
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
        check_visible(self.uri.as_deref(), &at.field("uri"), context);
        check_visible(self.authority.as_deref(), &at.field("authority"), context);
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
        let (before, expression) = (context.refused, at.field("match"));
        check_regex(&self.expression, &expression, context);
        check_visible(Some(&self.rewrite), &at.field("rewrite"), context);
        if context.refused == before
            && let Some(wrong) = wrong_replacement(&self.rewrite, group_count(&self.expression))
        {
            let problem = Problem::new(wrong).found(&self.rewrite);
            let expected = r"`\0` for all of the match, `\1` and so on for its groups, `\\` for a backslash";
            context.error(&at.field("rewrite"), problem.expected(expected));
        }
    }
}

/// What RE2 would not take in a replacement for an expression with so many groups.
fn wrong_replacement(text: &str, groups: u32) -> Option<&'static str> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('\\') {
        let next = after.chars().next();
        match next.and_then(|c| c.to_digit(10)) {
            Some(group) if group > groups => return Some("names a group that the expression does not have"),
            None if next != Some('\\') => return Some("has a lone backslash"),
            _ => {}
        }
        rest = &after[1..];
    }
    None
}
