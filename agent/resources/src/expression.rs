//! Regular expressions, in the syntax of RE2.

use crate::{Path, decode::Context, finding::Problem};

/// Reports what is wrong with an expression.
///
/// Groups must close within it: the data plane puts anchors around it, which must not mend what is broken.
pub(crate) fn check_regex(text: &str, at: &Path<'_>, context: &mut Context<'_>) {
    if let Err(error) = regex_syntax::parse(text) {
        let problem = Problem::new(format!("is no regular expression: {}", clause(&error))).found(text);
        context.error(at, problem.expected("RE2 syntax, without look-around and back-references"));
    }
}

/// What is wrong, without the drawing of the place that the error's own text has.
fn clause(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
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
