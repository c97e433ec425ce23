//! Changes of path and authority on the way to a destination.

use super::{HttpRoute, StringMatch, answer::check_visible};
use crate::{
    Path,
    decode::{Context, Fields, Shape},
    expression::{check_regex, group_count},
    finding::{Problem, Rule},
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

/// Warns where replacing a matched prefix leaves a path that its author hardly means: `/api` by `/` makes `//x` of
/// `/api/x`, and `/api/` by `/v1` makes `/v1x`.
pub(super) fn check_prefixes(rule: &HttpRoute, at: &Path<'_>, context: &mut Context<'_>) {
    let written = rule.rewrite.as_ref().filter(|_| !rule.route.is_empty());
    let Some(uri) = written.and_then(|rewrite| rewrite.uri.as_deref()) else { return };
    let prefixes = rule.matches.iter().filter_map(|condition| match &condition.uri {
        Some(StringMatch::Prefix(prefix)) => Some(prefix.as_str()),
        None => Some("/"),
        Some(_) => None,
    });
    let of_all = rule.matches.is_empty().then_some("/");
    let rewrite = at.field("rewrite");
    let at = rewrite.field("uri");
    if !uri.is_empty() && !uri.starts_with('/') {
        let problem = Problem::new("is no path: every path begins with `/`").found(uri);
        context.warning(Rule::Invalid, &at, problem.remedy(format!("write `/{uri}`")));
        return;
    }
    let mut remedies = Vec::new();
    for prefix in prefixes.chain(of_all) {
        let remedy = match (prefix.ends_with('/'), uri.ends_with('/')) {
            (false, true) => format!("match prefix `{prefix}/` instead, and `{prefix}` exactly"),
            (true, false) if !uri.is_empty() => format!("write `{}/`", uri),
            _ => continue,
        };
        let tail = if prefix.ends_with('/') { "x" } else { "/x" };
        // One remedy is said once, for the first prefix that needs it.
        if remedies.contains(&remedy) {
            continue;
        }
        let problem = Problem::new(format!("makes `{uri}{tail}` of `{prefix}{tail}`"));
        context.warning(Rule::Invalid, &at, problem.found(uri).remedy(remedy.clone()));
        remedies.push(remedy);
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
