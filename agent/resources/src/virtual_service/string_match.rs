//! Conditions on text.

use crate::{
    Path,
    decode::{Context, Fields, Shape},
    expression::check_regex,
    finding::Problem,
};

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
