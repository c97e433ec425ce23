//! `exportTo`: the namespaces that see a resource.

use crate::{Path, decode::Context, finding::Problem, host};

/// Reports what is wrong with a list of namespaces; `none_allowed` admits `~`, which means nobody.
pub(crate) fn check_export_to(
    export_to: &[String],
    none_allowed: bool,
    at: &Path<'_>,
    context: &mut Context<'_>,
) {
    for (index, namespace) in export_to.iter().enumerate() {
        let known = matches!(namespace.as_str(), "." | "*") || (none_allowed && namespace == "~");
        if !known && !host::is_namespace(namespace) {
            let problem = Problem::new("names no namespace").found(namespace);
            let expected =
                if none_allowed { "a namespace, `.`, `*` or `~`" } else { "a namespace, `.` or `*`" };
            context.error(&at.index(index), problem.expected(expected));
        } else if export_to[..index].iter().take(MOST_COMPARED).any(|earlier| earlier == namespace) {
            let problem = Problem::new("is written twice").found(namespace);
            context.error(&at.index(index), problem.remedy("remove one of the two"));
        }
    }
    for alone in ["*", "~"] {
        if export_to.len() > 1 && export_to.iter().any(|namespace| namespace == alone) {
            let problem = Problem::new(format!("holds `{alone}` and other namespaces"));
            context.error(at, problem.expected(format!("`{alone}` alone")));
        }
    }
}

// Pairs are compared only in lists that a person could have written.
const MOST_COMPARED: usize = 1_000;
