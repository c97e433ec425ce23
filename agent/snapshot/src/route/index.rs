//! Finds the first matching route of a long list without trying each.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::{PathMatch, Pattern, Route, combined_patterns::CombinedPatterns};

/// Lists shorter than this are tried one by one, which is quicker.
pub(super) const WORTH_AN_INDEX: usize = 16;

/// The routes of a virtual host by what their paths must begin with or be.
///
/// Every list holds positions in order, so that the first match of each is its best and the least of all wins.
#[derive(Debug, Default)]
pub(super) struct PathIndex {
    exact: HashMap<Box<str>, Vec<u32>, FixedState>,
    /// By a prefix that is also the whole condition, or with which every match of an expression begins.
    prefix: HashMap<Box<str>, Vec<u32>, FixedState>,
    /// Expressions of one beginning, which may be empty, where there are many.
    expressions: HashMap<Box<str>, Expressions, FixedState>,
    /// Lengths of the prefixes, ascending, each once.
    lengths: Vec<usize>,
    /// Routes whose path tells nothing beforehand.
    others: Vec<u32>,
}

/// Routes that only an expression decides about.
#[derive(Debug)]
struct Expressions {
    positions: Vec<u32>,
    combined_patterns: CombinedPatterns,
}

impl PathIndex {
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut index = Self { expressions: expressions(routes), ..Self::default() };
        for (position, route) in (0..).zip(routes) {
            let list = match &route.matches.path {
                PathMatch::Exact(path) if !path.ignore_case => index.exact.entry(path.text.as_str().into()),
                PathMatch::Prefix(path) if !path.ignore_case => index.prefix.entry(path.text.as_str().into()),
                PathMatch::Regex(pattern) if index.expressions.contains_key(pattern.literal_prefix()) => {
                    continue;
                }
                PathMatch::Regex(pattern) if !pattern.literal_prefix().is_empty() => {
                    index.prefix.entry(pattern.literal_prefix().into())
                }
                _ => {
                    index.others.push(position);
                    continue;
                }
            };
            list.or_default().push(position);
        }
        let beginnings = index.prefix.keys().chain(index.expressions.keys());
        index.lengths = beginnings.map(|beginning| beginning.len()).collect();
        index.lengths.sort_unstable();
        index.lengths.dedup();
        index
    }

    /// The first of `routes`, which the index was made of, that `matches`.
    pub(super) fn first<'r>(
        &self,
        path: &str,
        routes: &'r [Route],
        matches: impl Fn(&Route) -> bool,
    ) -> Option<&'r Route> {
        let mut best = routes.len();
        let mut ask = |list: &[u32]| {
            let earlier =
                list.iter().map(|position| *position as usize).take_while(|position| *position < best);
            if let Some(found) = earlier.into_iter().find(|position| matches(&routes[*position])) {
                best = found;
            }
        };
        self.exact.get(path).into_iter().for_each(|list| ask(list));
        for length in self.lengths.iter().take_while(|length| **length <= path.len()) {
            // A length inside a character begins no prefix, for those are whole.
            let Some(start) = path.get(..*length) else { continue };
            self.prefix.get(start).into_iter().for_each(|list| ask(list));
            if let Some(Expressions { positions, combined_patterns }) = self.expressions.get(start) {
                match combined_patterns.first(path, |at| matches(&routes[positions[at] as usize])) {
                    Ok(found) => ask(found.map(|at| &positions[at..=at]).unwrap_or_default()),
                    Err(_) => ask(positions),
                }
            }
        }
        ask(&self.others);
        routes.get(best)
    }
}

/// The expressions of each beginning that many have.
fn expressions(routes: &[Route]) -> HashMap<Box<str>, Expressions, FixedState> {
    let mut by_beginning: HashMap<&str, Vec<(u32, &Pattern)>, FixedState> = HashMap::default();
    for (position, route) in (0..).zip(routes) {
        if let PathMatch::Regex(pattern) = &route.matches.path {
            by_beginning.entry(pattern.literal_prefix()).or_default().push((position, pattern));
        }
    }
    by_beginning.retain(|_, list| list.len() >= WORTH_AN_INDEX);
    let combined_patterns = |(beginning, list): (&str, Vec<(u32, &Pattern)>)| {
        let combined_patterns = CombinedPatterns::new(list.iter().map(|(_, pattern)| *pattern))?;
        let positions = list.into_iter().map(|(position, _)| position).collect();
        Some((beginning.into(), Expressions { positions, combined_patterns }))
    };
    by_beginning.into_iter().filter_map(combined_patterns).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pattern, RouteAction, RouteMatch, route::PathText};

    fn route(path: PathMatch) -> Route {
        Route::new(
            RouteMatch::on_path(path),
            RouteAction::DirectResponse { status: 200, body: String::new() },
        )
    }

    #[test]
    fn the_index_finds_what_trying_each_would() {
        let any_case = |text: &str| PathText { text: text.to_owned(), ignore_case: true };
        let regex = |source: &str| PathMatch::Regex(Pattern::new(source).unwrap());
        let paths = [
            PathMatch::exact("/a/b"),
            PathMatch::prefix("/a/b/c"),
            regex("/a/(b|c)/[0-9]+"),
            PathMatch::Exact(any_case("/A/X")),
            PathMatch::prefix("/a/"),
            regex(".*/z"),
            PathMatch::exact("/a/b"),
            PathMatch::prefix("/é"),
            regex("(?i)/q.*"),
            PathMatch::Prefix(any_case("/M")),
            PathMatch::exact("/last"),
            regex("/|/exactly"),
        ];
        let routes: Vec<Route> = paths.into_iter().map(route).collect();
        let index = PathIndex::new(&routes);
        for path in [
            "/", "/a", "/a/", "/a/b", "/a/b/c", "/a/b/7", "/a/c/7", "/a/x", "/a/X", "/b/z", "/a/z", "/é/1",
            "/e", "/Q1", "/q", "/m1", "/last", "/lasting", "/exactly", "*", "",
        ] {
            let by_path = |route: &Route| route.matches.path.matches(path);
            let position = |route: &Route| routes.iter().position(|other| std::ptr::eq(other, route));
            let tried = routes.iter().position(by_path);
            assert_eq!(index.first(path, &routes, by_path).and_then(position), tried, "{path}");
        }
    }

    #[test]
    fn many_expressions_are_tried_together() {
        let sources = (0..100).map(|at| match at % 3 {
            0 => format!(r"/\D+{at}/x"),
            1 => format!("/[a-z]+{at}(/.*)?"),
            _ => format!(".*/{at}"),
        });
        let mut routes: Vec<Route> =
            sources.map(|source| route(PathMatch::Regex(Pattern::new(&source).unwrap()))).collect();
        routes.insert(50, route(PathMatch::prefix("/part7")));
        let index = PathIndex::new(&routes);
        assert_eq!(index.expressions.len(), 2);
        for path in
            ["/part9/x", "/part99/x", "/part7", "/part70/x", "/a/b/98", "/part73/x", "/", "", "/part100/x"]
        {
            let by_path = |route: &Route| route.matches.path.matches(path);
            let position = |route: &Route| routes.iter().position(|other| std::ptr::eq(other, route));
            let tried = routes.iter().position(by_path);
            assert_eq!(index.first(path, &routes, by_path).and_then(position), tried, "{path}");
        }
    }

    #[test]
    fn other_conditions_leave_the_request_to_later_routes() {
        let routes: Vec<Route> =
            ["/a", "/a/b", "/a"].into_iter().map(|p| route(PathMatch::prefix(p))).collect();
        let index = PathIndex::new(&routes);
        let not_first =
            |route: &Route| !std::ptr::eq(route, &raw const routes[0]) && route.matches.path.matches("/a/b");
        assert!(std::ptr::eq(index.first("/a/b", &routes, not_first).unwrap(), &raw const routes[1]));
        assert!(index.first("/a/b", &routes, |_| false).is_none());
    }
}
