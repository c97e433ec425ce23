//! Which paths earlier rules have taken already.

use std::collections::HashMap;

use crate::StringMatch;

/// Path conditions seen so far, each with who has it; finds the one that takes all of another.
///
/// Costs a look-up per byte of the path asked for, however many conditions there are.
#[derive(Clone, Debug)]
pub struct PathCover<'p, T> {
    all: Option<T>,
    prefixes: HashMap<&'p str, T>,
    exact: HashMap<&'p str, T>,
}

impl<T> Default for PathCover<'_, T> {
    fn default() -> Self {
        Self { all: None, prefixes: HashMap::new(), exact: HashMap::new() }
    }
}

impl<'p, T> PathCover<'p, T> {
    /// Adds a condition; `None` takes every path. Of equal conditions the first stays. Expressions take no path that
    /// could be known.
    pub fn insert(&mut self, condition: Option<&'p StringMatch>, owner: T) {
        match condition {
            None | Some(StringMatch::Present) => _ = self.all.get_or_insert(owner),
            Some(StringMatch::Exact(path)) => _ = self.exact.entry(path).or_insert(owner),
            Some(StringMatch::Prefix(prefix)) if prefix == "/" => _ = self.all.get_or_insert(owner),
            Some(StringMatch::Prefix(prefix)) => _ = self.prefixes.entry(prefix).or_insert(owner),
            Some(StringMatch::Regex(all)) if all == ".*" => _ = self.all.get_or_insert(owner),
            Some(StringMatch::Regex(_)) => {}
        }
    }

    /// Who has a condition that takes every path there is.
    pub fn covering_all(&self) -> Option<&T> {
        self.all.as_ref()
    }

    /// Who has a condition that takes every path this one takes.
    pub fn covering(&self, condition: Option<&StringMatch>) -> Option<&T> {
        let within = |path: &str| (1..=path.len()).find_map(|end| self.prefixes.get(path.get(..end)?));
        let covering = match condition {
            Some(StringMatch::Exact(path)) => self.exact.get(path.as_str()).or_else(|| within(path)),
            Some(StringMatch::Prefix(prefix)) => within(prefix),
            Some(StringMatch::Regex(_) | StringMatch::Present) | None => None,
        };
        covering.or(self.all.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(path: &str) -> Option<StringMatch> {
        Some(StringMatch::Exact(path.to_owned()))
    }

    fn prefix(path: &str) -> Option<StringMatch> {
        Some(StringMatch::Prefix(path.to_owned()))
    }

    #[test]
    fn a_prefix_takes_all_that_begins_with_it() {
        let (api, one) = (prefix("/api"), exact("/one"));
        let mut cover = PathCover::default();
        cover.insert(api.as_ref(), "api");
        cover.insert(one.as_ref(), "one");
        for taken in [prefix("/api"), prefix("/api/v2"), prefix("/apix"), exact("/api")] {
            assert_eq!(cover.covering(taken.as_ref()), Some(&"api"), "{taken:?}");
        }
        assert_eq!(cover.covering(exact("/one").as_ref()), Some(&"one"));
        for free in
            [prefix("/ap"), prefix("/one"), exact("/two"), None, Some(StringMatch::Regex("/api/.*".into()))]
        {
            assert_eq!(cover.covering(free.as_ref()), None, "{free:?}");
        }
    }

    #[test]
    fn a_root_prefix_takes_everything() {
        let root = prefix("/");
        let mut cover = PathCover::default();
        cover.insert(root.as_ref(), ());
        for taken in [None, exact("/x"), prefix("/é"), Some(StringMatch::Regex(".*".into()))] {
            assert_eq!(cover.covering(taken.as_ref()), Some(&()));
        }
    }
}
