//! Nodes to typed values: strict about types, complete about mistakes.
//!
//! Reading never stops at the first problem: a field that cannot be read takes its default, the resource is marked
//! refused, and the rest is read on so that every mistake is told at once. A refused resource never leaves the crate.
//! What stands in for some, so that calls are refused rather than made in clear text, has those defaults.

mod elsewhere;
mod fields;
mod scalars;

use std::{collections::BTreeMap, sync::Arc};

#[cfg(test)]
pub(crate) use fields::Effect;
pub(crate) use fields::{Fields, Shape};
#[cfg(any(test, fuzzing))]
pub(crate) use scalars::is_other_scalar;
pub(crate) use scalars::{Interval, Limit, PortNumber, one_of, whole_number, word, word_of};

use crate::{
    Path,
    finding::{Finding, Place, Problem, Rule, Severity},
    meta::{Positions, ResourceId},
    shown::shortened,
    yaml::{Node, Position, Value},
};

/// A type that can be read from a node.
pub(crate) trait Decode: Default {
    /// What is written for such a value, told when it is missing.
    const FORM: &'static str = "a value";

    /// Reads the value; reports through `context` and returns a default when it has the wrong form.
    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self;

    /// Tells which fields the value at `path` may have, for the table of all fields. Scalars have none.
    #[cfg(test)]
    fn describe(_path: &str, _table: &mut crate::field_table::Table) {}
}

/// What is known while one resource is read: where it is, what was found so far.
pub(crate) struct Context<'c> {
    file: &'c Arc<str>,
    findings: &'c mut Findings,
    /// The resource's identity as soon as it is known.
    pub(crate) id: Option<ResourceId>,
    /// Where every value read so far is written.
    pub(crate) positions: Positions,
    /// Whether the resource has an error and must not be used.
    pub(crate) refused: bool,
    /// Whether values must not be shown: set while a Secret is read.
    pub(crate) hides_values: bool,
    /// Whether nothing of the kind or of a field around is acted on yet, which is said once and not of every field.
    pub(crate) is_planned: bool,
    /// Whether a value that cannot be used counts as if it were not written: set while mesh-wide settings are read, which
    /// are never refused as a whole.
    pub(crate) leaves_out: bool,
}

impl<'c> Context<'c> {
    pub(crate) fn new(file: &'c Arc<str>, findings: &'c mut Findings, start: Position) -> Self {
        let mut positions = Positions::with_room();
        positions.record(&Path::ROOT, start);
        Self {
            file,
            findings,
            id: None,
            positions,
            refused: false,
            hides_values: false,
            is_planned: false,
            leaves_out: false,
        }
    }

    /// The file being read.
    pub(crate) fn file(&self) -> &Arc<str> {
        self.file
    }

    /// The namespace of the resource being read.
    pub(crate) fn namespace(&self) -> &str {
        self.id.as_ref().map_or("", |id| &id.namespace)
    }

    /// Reports a mistake that costs the resource.
    pub(crate) fn error(&mut self, at: &Path<'_>, problem: Problem) {
        self.refused = true;
        self.report(Severity::Error, Rule::Invalid, at, None, problem);
    }

    /// Reports something its author should know.
    pub(crate) fn warning(&mut self, rule: Rule, at: &Path<'_>, problem: Problem) {
        self.report(Severity::Warning, rule, at, None, problem);
    }

    fn report(
        &mut self,
        severity: Severity,
        rule: Rule,
        at: &Path<'_>,
        position: Option<Position>,
        problem: Problem,
    ) {
        // Finding the place reads every position: not for what is not shown.
        if self.findings.is_full() {
            return self.findings.drop_one();
        }
        let position = position.or_else(|| self.positions.find(at)).unwrap_or_default();
        let place = Some(Place::whole(self.file.clone()).at(position));
        let path = shortened(at.to_string());
        let problem = if self.hides_values { Problem { found: None, ..problem } } else { problem };
        self.findings.push(Finding { severity, rule, place, resource: self.id.clone(), path, problem });
    }
}

/// The findings of one text, bounded: a file of a million mistakes costs no more than a file of a thousand.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    dropped: usize,
}

impl Findings {
    pub(crate) const MOST: usize = 1_000;

    pub(crate) fn push(&mut self, finding: Finding) {
        if self.is_full() {
            self.drop_one();
        } else {
            self.list.push(finding);
        }
    }

    fn is_full(&self) -> bool {
        self.list.len() >= Self::MOST
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
    }

    /// Adds the findings of what stands behind in the text.
    pub(crate) fn append(&mut self, behind: Self) {
        self.dropped += behind.dropped;
        behind.list.into_iter().for_each(|finding| self.push(finding));
    }

    /// The findings; a last one tells how many were dropped.
    pub(crate) fn into_list(mut self, file: &Arc<str>) -> Vec<Finding> {
        if self.dropped > 0 {
            let problem = Problem::new(format!("{} more findings are not shown", self.dropped));
            self.list.push(Finding {
                severity: Severity::Warning,
                rule: Rule::Invalid,
                place: Some(Place::whole(file.clone())),
                resource: None,
                path: String::new(),
                problem: problem.remedy("fix those shown first"),
            });
        }
        self.list
    }
}

impl<T: Decode> Decode for Vec<T> {
    const FORM: &'static str = "a list";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let Value::List(items) = &node.value else {
            context.error(at, Problem::new("has the wrong type").found(node.describe()).expected(Self::FORM));
            return Self::new();
        };
        let item = |(index, node): (usize, &Node<'_>)| {
            let at = at.index(index);
            context.positions.record(&at, node.position);
            if node.is_null() {
                context.error(&at, Problem::new("is empty").expected("an item after each `-`"));
                return T::default();
            }
            T::decode(node, &at, context)
        };
        items.iter().enumerate().map(item).collect()
    }

    #[cfg(test)]
    fn describe(path: &str, table: &mut crate::field_table::Table) {
        T::describe(&format!("{path}[]"), table);
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    const FORM: &'static str = "an object of names and values";

    fn decode(node: &Node<'_>, at: &Path<'_>, context: &mut Context<'_>) -> Self {
        let Value::Object(members) = &node.value else {
            let problem = Problem::new("has the wrong type").found(node.describe());
            context.error(at, problem.expected(Self::FORM));
            return Self::new();
        };
        let mut entries = Self::new();
        for member in members {
            let at = at.key(&member.key);
            context.positions.record(&at, member.value.position);
            entries.insert(member.key.to_string(), T::decode(&member.value, &at, context));
        }
        entries
    }

    #[cfg(test)]
    fn describe(path: &str, table: &mut crate::field_table::Table) {
        T::describe(&format!("{path}[…]"), table);
    }
}
