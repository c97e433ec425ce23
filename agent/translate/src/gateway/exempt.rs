//! Paths that `httpsRedirect` leaves alone. Istio has no field for them, so that an annotation names them.

use std::collections::BTreeSet;

use resources::{Finding, Path, Problem, Rule, Severity};

use super::servers::SelectedServer;

/// Annotation of a Gateway: beginnings of paths, separated by commas.
pub(super) const ANNOTATION: &str = "postern/https-redirect-exempt";

/// The beginnings of paths that are served in clear text by a server that redirects. What is none is left out and told.
pub(super) fn paths(server: &SelectedServer<'_>, findings: &mut Vec<Finding>) -> BTreeSet<String> {
    let meta = &server.gateway.meta;
    let Some(written) = meta.annotations.get(ANNOTATION) else { return BTreeSet::new() };
    let (good, bad): (Vec<&str>, Vec<&str>) =
        written.split(',').map(str::trim).partition(|path| is_beginning(path));
    let metadata = Path::ROOT.field("metadata");
    let annotations = metadata.field("annotations");
    findings.extend(bad.into_iter().map(|path| {
        let problem = Problem::new("is no beginning of paths, and is left out").found(path);
        let problem =
            problem.expected("such as `/.well-known/acme-challenge/`, more than `/`, without `%` and `..`");
        meta.finding(Severity::Warning, Rule::Invalid, &annotations.field(ANNOTATION), problem)
    }));
    good.into_iter().map(str::to_owned).collect()
}

/// `/` alone would leave nothing to redirect.
fn is_beginning(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.contains("..")
        && !path.contains(['%', '?', '#', '\\', ' '])
}
