//! Header changes of rules and their destinations, in the order in which Istio has them made.

use resources::{HeaderOperations, Headers, HttpRoute, Path, Problem};
use snapshot::{Edits, Format, HeaderEdits};

use super::Report;

/// What `headers` of a rule or a destination change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// New `Host`: a change of that header is a change of the authority.
    pub(crate) authority: Option<String>,
    pub(crate) edits: HeaderEdits,
}

/// The changes for every request of a rule, and those of each destination.
///
/// The changes for a single destination come after the rule's; where several share the requests, each one's changes
/// are made first and so the rule has the last word.
pub(super) fn of_rule(http: &HttpRoute, report: &mut Report<'_, '_>) -> (Changes, Vec<Changes>) {
    let mut own = http.headers.as_ref().map_or_else(Changes::default, |headers| {
        changes(headers, report, &|rule, then| then(&rule.field("headers")))
    });
    let of_destinations = http.route.iter().enumerate().map(|(index, to)| {
        to.headers.as_ref().map_or_else(Changes::default, |headers| {
            changes(headers, report, &|rule, then| {
                let list = rule.field("route");
                then(&list.index(index).field("headers"));
            })
        })
    });
    let mut of_destinations: Vec<Changes> = of_destinations.collect();
    if let [only] = of_destinations.as_mut_slice() {
        let Changes { authority, edits } = std::mem::take(only);
        own.authority = authority.or(own.authority);
        append(&mut own.edits.request, edits.request);
        append(&mut own.edits.response, edits.response);
    }
    (own, of_destinations)
}

/// Finds a place below the path of the rule and shows it to the closure.
type Placed<'p> = &'p dyn Fn(&Path<'_>, &mut dyn FnMut(&Path<'_>));

fn changes(headers: &Headers, report: &mut Report<'_, '_>, at: Placed<'_>) -> Changes {
    let authority = host_of(&headers.request);
    let request =
        edits(&headers.request, report, &|rule, then| at(rule, &mut |at| then(&at.field("request"))));
    let response =
        edits(&headers.response, report, &|rule, then| at(rule, &mut |at| then(&at.field("response"))));
    Changes { authority, edits: HeaderEdits { request, response } }
}

fn is_host(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

/// What `Host` is set to; setting beats adding.
fn host_of(request: &HeaderOperations) -> Option<String> {
    let mut host = request.set.iter().chain(&request.add).filter(|(name, _)| is_host(name));
    host.next().map(|(_, value)| value.clone())
}

fn edits(operations: &HeaderOperations, report: &mut Report<'_, '_>, at: Placed<'_>) -> Edits {
    let mut lines = |field: &'static str, written: &resources::Labels| {
        let mut lines: Vec<(String, Format)> = Vec::new();
        for (name, value) in written.iter().filter(|(name, _)| !is_host(name)) {
            match Format::parse(value) {
                Ok(format) => {
                    for operator in format.unavailable() {
                        let problem = Problem::new(format!(
                            "`%{operator}%` has no value here, so nothing stands in its place: Envoy has it, Postern does not"
                        ));
                        let problem = problem.found(value).remedy("leave it out, or write another operator");
                        report.not_supported(
                            |rule, then| at(rule, &mut |at| then(&at.field(field).key(name))),
                            problem,
                        );
                    }
                    lines.push((name.to_ascii_lowercase(), format));
                }
                Err(wrong) => {
                    let problem = Problem::new(format!("{wrong}: the header is left out")).found(value);
                    let problem =
                        problem.remedy("write `%%` for a percent sign, or one of Envoy's operators");
                    report.error(|rule, then| at(rule, &mut |at| then(&at.field(field).key(name))), problem);
                }
            }
        }
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        lines
    };
    let (set, add) = (lines("set", &operations.set), lines("add", &operations.add));
    let mut remove: Vec<String> = operations.remove.iter().map(|name| name.to_ascii_lowercase()).collect();
    remove.sort();
    remove.dedup();
    Edits { remove, set, add }
}

/// Makes `later` follow `edits`: what is set later replaces what was set or added before.
fn append(edits: &mut Edits, later: Edits) {
    let replaced = |name: &str| later.set.iter().any(|(set, _)| set == name);
    edits.set.retain(|(name, _)| !replaced(name));
    edits.add.retain(|(name, _)| !replaced(name));
    edits.set.extend(later.set);
    edits.add.extend(later.add);
    edits.remove.extend(later.remove);
    edits.set.sort_by(|(a, _), (b, _)| a.cmp(b));
    edits.add.sort_by(|(a, _), (b, _)| a.cmp(b));
    edits.remove.sort();
    edits.remove.dedup();
}
