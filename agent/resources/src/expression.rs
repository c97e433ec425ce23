//! Regular expressions, in the syntax of RE2.

use regex_syntax::ast::{self, Ast, Visitor};

use crate::{Path, decode::Context, finding::Problem};

/// Longest expression, as in Istio.
const LONGEST: usize = 1024;

/// Most times RE2 repeats a part.
const MOST_REPEATED: u32 = 1000;

/// Reports what is wrong with an expression.
///
/// Groups must close within it: the data plane puts anchors around it, which must not mend what is broken. Syntax that
/// RE2 does not have, or reads otherwise, is refused too, so that a resource means here what it means in Istio.
pub(crate) fn check_regex(text: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if text.is_empty() || text.len() > LONGEST {
        let problem = Problem::new("has a length out of range").found(format!("{} bytes", text.len()));
        return context.error(at, problem.expected(format!("1–{LONGEST}")));
    }
    if let Some(wrong) = wrong_in(text) {
        let problem = Problem::new(format!("is no regular expression: {wrong}")).found(text);
        context.error(at, problem.expected("RE2 syntax, without look-around and back-references"));
    }
}

fn wrong_in(text: &str) -> Option<String> {
    if let Err(error) = regex_syntax::parse(text) {
        return Some(clause(&error));
    }
    let tree = ast::parse::Parser::new().parse(text).ok()?;
    ast::visit(&tree, BeyondRe2).err().map(str::to_owned)
}

/// What is wrong, without the drawing of the place that the error's own text has.
fn clause(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    }
}

/// Number of groups of an expression that is right.
pub(crate) fn group_count(text: &str) -> u32 {
    regex_syntax::parse(text)
        .map_or(0, |tree| u32::try_from(tree.properties().explicit_captures_len()).unwrap_or(u32::MAX))
}

/// Stops at the first thing that RE2 does not have or reads otherwise.
struct BeyondRe2;

impl Visitor for BeyondRe2 {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), Self::Err> {
        use ast::{AssertionKind, Flag, FlagsItemKind, RepetitionKind, RepetitionRange};
        let known = |flags: &ast::Flags| {
            flags.items.iter().all(|item| match item.kind {
                FlagsItemKind::Negation => true,
                FlagsItemKind::Flag(flag) => {
                    !matches!(flag, Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace)
                }
            })
        };
        match part {
            Ast::Flags(flags) if !known(&flags.flags) => Err("RE2 has no such flag"),
            Ast::Group(group) if group.flags().is_some_and(|flags| !known(flags)) => {
                Err("RE2 has no such flag")
            }
            Ast::Repetition(repetition) => match repetition.op.kind {
                RepetitionKind::Range(
                    RepetitionRange::Exactly(most)
                    | RepetitionRange::AtLeast(most)
                    | RepetitionRange::Bounded(_, most),
                ) if most > MOST_REPEATED => Err("a part is repeated more than 1000 times"),
                _ => Ok(()),
            },
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => Ok(()),
                _ => Err("RE2 knows the beginnings and ends of words by `\\b` only"),
            },
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ast::ClassSetItem::Bracketed(_) => {
                Err("RE2 has no classes within classes: write `\\[` for the sign")
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), Self::Err> {
        Err("RE2 does not combine classes: write `&`, `-` or `~` once")
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::findings;

    #[test]
    fn what_is_no_expression_is_told_in_a_clause() {
        for (regex, wrong) in [
            ("(a", "is no regular expression: unclosed group (found `(a`; expected RE2 syntax"),
            ("a)(b", "unopened group"),
            ("(?!a)", "look-around, including look-ahead and look-behind, is not supported"),
            (r"(a)\1", "backreferences are not supported"),
            ("a{1001}", "a part is repeated more than 1000 times"),
            ("(?x)a", "RE2 has no such flag"),
            ("[a&&b]", "RE2 does not combine classes"),
            ("[a[b]]", "RE2 has no classes within classes"),
            (r"\<a", r"RE2 knows the beginnings and ends of words by `\b` only"),
            ("", "has a length out of range (found `0 bytes`; expected 1–1024)"),
            (&"a".repeat(1025), "has a length out of range (found `1025 bytes`"),
        ] {
            let text = format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec:\n  hosts: [a.com]\n  \
                 gateways: [gw]\n  http: [{{match: [{{uri: {{regex: '{regex}'}}}}], route: [{{destination: {{host: b}}}}]}}]\n"
            );
            let findings = findings(&text);
            assert_eq!(findings.len(), 1, "{findings:#?}");
            let place = "spec.http[0].match[0].uri.regex: ";
            assert!(findings[0].contains(place) && findings[0].contains(wrong), "{findings:#?}");
        }
    }
}
