//! What was noticed about a resource, where, and what to do about it.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use serde::Serialize;

use crate::{
    meta::ResourceId,
    shown::{OneLine, quoted, shortened},
    yaml::Position,
};

/// Something a user should know about a resource.
///
/// Displays as `file:line:col: Kind ns/name: spec.path: what is wrong (found …; expected …; remedy)`; the place and
/// the resource are left out where they are not known, and the bracket holds at least what is expected or a remedy. The severity is not printed: the caller decides how to show it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Whether the thing found has been refused.
    pub severity: Severity,
    /// What sort of finding it is, for programs.
    pub rule: Rule,
    /// Where it is written; absent for resources that came from no text.
    pub place: Option<Place>,
    /// The resource concerned, when its name could be read.
    pub resource: Option<ResourceId>,
    /// Field path inside the resource, `spec.http[0].timeout`; empty for the resource as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    #[serde(flatten)]
    pub problem: Problem,
}

impl Finding {
    /// The same finding as `validate` reports it: a field nobody knows is an error there, while a running proxy
    /// ignores it as the Kubernetes API server would.
    pub fn strict(mut self) -> Self {
        if self.rule == Rule::UnknownField {
            self.severity = Severity::Error;
        }
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = OneLine(f);
        if let Some(place) = &self.place {
            write!(line, "{place}: ")?;
        }
        if let Some(resource) = &self.resource {
            write!(line, "{resource}: ")?;
        }
        if !self.path.is_empty() {
            write!(line, "{}: ", self.path)?;
        }
        write!(line, "{}", self.problem)
    }
}

/// How much a finding costs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// In force, though perhaps not as its author thinks.
    Warning,
    /// Not in force.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Sorts of findings. The names in JSON (`unknown-field`) are stable.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The text is neither YAML nor JSON, or too large.
    Syntax,
    /// A value has the wrong form, or contradicts another in the same resource.
    Invalid,
    /// A field that the kind does not have.
    UnknownField,
    /// A field that newer releases of the interface spell otherwise.
    Deprecated,
    /// A field or kind that this version does not act on.
    NotSupported,
    /// A kind that is not known here.
    UnknownKind,
    /// The same resource is written in two places.
    Duplicate,
    /// A change was refused and the version before it stays in force.
    LastValid,
    /// Something is named that does not exist.
    UnknownReference,
    /// Two resources claim the same thing and one of them lost.
    Conflict,
    /// A certificate that can serve, but that clients refuse or soon will.
    Certificate,
    /// A rule that can never be reached.
    Shadowed,
    /// A file or directory cannot be read.
    Unreadable,
}

/// What is wrong, with the value found where there is one, and always what would be right or what to do.
///
/// Made by [`Problem::new`], which gives a [`Clause`]: only [`Clause::expected`] and [`Clause::remedy`] make a problem
/// of it, so that no finding leaves its reader alone.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// A lower-case clause: `port is out of range`.
    pub message: String,
    /// The offending value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Box<str>>,
    /// Whether what was found is the name of something that does not exist.
    #[serde(skip)]
    pub(crate) is_absent: bool,
    /// What a good value looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    /// States what is wrong.
    #[expect(clippy::new_ret_no_self, reason = "a problem without a way out is none yet")]
    pub fn new(message: impl Into<String>) -> Clause {
        Clause { message: shortened(message), found: None, is_absent: false }
    }

    /// Adds the offending value, shortened when it is long.
    pub fn found(mut self, value: impl fmt::Display) -> Self {
        self.found = Some(quoted(&value.to_string()).into());
        self
    }

    /// Adds what a good value looks like.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(shortened(expected));
        self
    }

    /// Adds what to do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(shortened(remedy));
        self
    }

    /// The same problem in other words.
    pub fn restated(self, message: impl Into<String>) -> Self {
        Self { message: shortened(message), ..self }
    }

    /// Adds what to do when that is known.
    pub fn perhaps_remedy(mut self, remedy: Option<impl Into<String>>) -> Self {
        self.remedy = remedy.map(shortened).or(self.remedy);
        self
    }
}

/// What is wrong and with which value: becomes a [`Problem`] by saying what would be right.
#[derive(Clone, Debug)]
#[must_use = "only with `expected` or `remedy` is it a problem that can be reported"]
pub struct Clause {
    message: String,
    found: Option<Box<str>>,
    is_absent: bool,
}

impl Clause {
    /// Adds the offending value, shortened when it is long.
    pub fn found(self, value: impl fmt::Display) -> Self {
        Self { found: Some(quoted(&value.to_string()).into()), ..self }
    }

    /// Adds the name that was written of what does not exist, for which "found" would say the opposite.
    pub fn written(self, value: impl fmt::Display) -> Self {
        Self { is_absent: true, ..self.found(value) }
    }

    /// Says which word was meant when that is clear, and else what a good value looks like.
    pub(crate) fn meant_or_expected(
        self,
        meant: Option<String>,
        expected: impl FnOnce() -> String,
    ) -> Problem {
        match meant {
            Some(meant) => self.remedy(meant),
            None => self.expected(expected()),
        }
    }

    /// Says what a good value looks like.
    pub fn expected(self, expected: impl Into<String>) -> Problem {
        Problem { expected: Some(shortened(expected)), ..self.bare() }
    }

    /// Says what to do.
    pub fn remedy(self, remedy: impl Into<String>) -> Problem {
        Problem { remedy: Some(shortened(remedy)), ..self.bare() }
    }

    fn bare(self) -> Problem {
        let Self { message, found, is_absent } = self;
        Problem { message, found, is_absent, expected: None, remedy: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let found =
            |found| if self.is_absent { format!("written: {found}") } else { format!("found {found}") };
        let found = self.found.as_ref().map(found);
        let expected = self.expected.as_ref().map(|expected| format!("expected {expected}"));
        let details: Vec<_> = [found, expected, self.remedy.clone()].into_iter().flatten().collect();
        write!(f, " ({})", details.join("; "))
    }
}

/// Where something is written.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Place {
    /// The file, as the source names it.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 means the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub fn whole(file: impl Into<Arc<str>>) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }

    pub(crate) fn at(&self, position: Position) -> Self {
        Self { file: self.file.clone(), line: position.line, column: position.column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn finding() -> Finding {
        Finding {
            severity: Severity::Error,
            rule: Rule::Invalid,
            place: Some(Place { file: "a.yaml".into(), line: 3, column: 7 }),
            resource: Some(ResourceId::new(Kind::Gateway, "default", "gw")),
            path: "spec.servers[0].port.number".to_owned(),
            problem: Problem::new("is not a port").found(70000).expected("1–65535"),
        }
    }

    #[test]
    fn a_finding_reads_from_place_to_remedy() {
        let problem = finding().problem.remedy("choose another");
        let text = Finding { problem, ..finding() }.to_string();
        let start = "a.yaml:3:7: Gateway default/gw: spec.servers[0].port.number: is not a port";
        assert_eq!(text, format!("{start} (found `70000`; expected 1–65535; choose another)"));
    }

    #[test]
    fn names_of_what_does_not_exist_are_not_said_to_be_found() {
        let problem = Problem::new("there is no such Gateway").written("a/b").remedy("add it");
        assert_eq!(problem.to_string(), "there is no such Gateway (written: `a/b`; add it)");
    }

    #[test]
    fn names_and_places_cannot_end_the_line() {
        let resource = Some(ResourceId::new(Kind::Gateway, "a\nb", "\u{1b}[31m"));
        let place = Some(Place { file: "x\ny.yaml".into(), line: 1, column: 2 });
        let path = "spec.x\u{202e}y".to_owned();
        let problem = Problem::new("is\twrong").remedy("say\rwhat");
        let text = Finding { resource, place, path, problem, ..finding() }.to_string();
        let shown = "x\\ny.yaml:1:2: Gateway a\\nb/\\u{1b}[31m: spec.x\\u{202e}y: is\\twrong (say\\rwhat)";
        assert_eq!(text, shown);
    }

    #[test]
    fn only_unknown_fields_change_with_strictness() {
        let warning = Finding { severity: Severity::Warning, rule: Rule::UnknownField, ..finding() };
        assert_eq!(warning.strict().severity, Severity::Error);
        let other = Finding { severity: Severity::Warning, rule: Rule::Deprecated, ..finding() };
        assert_eq!(other.strict().severity, Severity::Warning);
    }
}
