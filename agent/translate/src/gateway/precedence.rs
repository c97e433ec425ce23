//! The order of routes by how narrow their paths are, for who asks for it (`POSTERN_LONGEST_PREFIX_FIRST`). Istio knows
//! only the order in which rules are written, and the age of VirtualServices that share a host.

use std::cmp::Reverse;

use snapshot::{PathMatch, RouteMatch};

/// What routes are ordered by, the narrowest first: whole paths; expressions, whose width nobody can tell, as they are
/// written; prefixes, the longest first; any path. Of equal ones that with more conditions goes first, and those that take
/// everything are last in any case.
pub(super) fn precedence(matches: &RouteMatch) -> impl Ord + use<> {
    let path = match &matches.path {
        PathMatch::Exact(_) => (0, Reverse(0)),
        PathMatch::Regex(_) => (1, Reverse(0)),
        PathMatch::Prefix(prefix) => (2, Reverse(prefix.text.len())),
        PathMatch::Any => (3, Reverse(0)),
    };
    let others = [&matches.scheme, &matches.method, &matches.authority];
    let conditions =
        others.into_iter().flatten().count() + matches.headers.len() + matches.query_params.len();
    (matches.takes_all(), path, Reverse(conditions))
}
