//! Finds the first matching route of a long list without trying each.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::{PathMatch, Route};

/// Lists shorter than this are tried one by one, which is quicker.
pub(super) const WORTH_AN_INDEX: usize = 16;

/// The routes of a virtual host by what their paths must begin with or be.
///
/// Every list holds positions in order, so that the first match of each is its best and the least of all wins.
#[derive(Clone, Debug, Default)]
pub(super) struct PathIndex {
    exact: HashMap<Box<str>, Vec<u32>, FixedState>,
    /// By a prefix that is also the whole condition, or with which every match of an expression begins.
    prefix: HashMap<Box<str>, Vec<u32>, FixedState>,
    /// Lengths of the prefixes, ascending, each once.
    lengths: Vec<usize>,
    /// Routes whose path tells nothing beforehand.
    others: Vec<u32>,
}

impl PathIndex {
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut index = Self::default();
        for (position, route) in (0..).zip(routes) {
            let list = match &route.matches.path {
                PathMatch::Exact(path) if !path.ignore_case => index.exact.entry(path.text.as_str().into()),
                PathMatch::Prefix(path) if !path.ignore_case => index.prefix.entry(path.text.as_str().into()),
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
        index.lengths = index.prefix.keys().map(|prefix| prefix.len()).collect();
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
            let list = path.get(..*length).and_then(|start| self.prefix.get(start));
            list.into_iter().for_each(|list| ask(list));
        }
        ask(&self.others);
        routes.get(best)
    }
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
