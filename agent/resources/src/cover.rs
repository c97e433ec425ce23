//! Which requests earlier matches have taken already.

use std::collections::{BTreeMap, HashMap};

use crate::{HttpMatch, StringMatch};

/// Matches seen so far, each with who has it; finds one that takes every request of another.
///
/// It never says so wrongly; what only several matches take together, or one more than some dozen kinds of conditions
/// later, it does not see.
#[derive(Clone, Debug)]
pub struct MatchCover<'m, T> {
    /// Paths by the conditions beside them; those without come first.
    groups: Vec<(Option<&'m HttpMatch>, PathCover<'m, T>)>,
}

impl<T> Default for MatchCover<'_, T> {
    fn default() -> Self {
        Self { groups: vec![(None, PathCover::default())] }
    }
}

/// Groups beyond are not looked at, so that a list of a thousand rules costs no million comparisons.
const MOST_GROUPS: usize = 64;

impl<'m, T> MatchCover<'m, T> {
    /// Adds a match; `None` takes every request. Of equal ones the first stays.
    pub fn insert(&mut self, condition: Option<&'m HttpMatch>, owner: T) {
        // What ignores case takes paths that are not told apart here; what reads claims is left out of the routes.
        if condition.is_some_and(|condition| condition.ignore_uri_case || condition.reads_claims()) {
            return;
        }
        let same = |wide: Option<&HttpMatch>| implies(wide, condition) && implies(condition, wide);
        let uri = condition.and_then(|condition| condition.uri.as_ref());
        let group = self.groups.iter().position(|(wide, _)| same(*wide)).unwrap_or(self.groups.len());
        if group == self.groups.len() && group < MOST_GROUPS {
            self.groups.push((condition, PathCover::default()));
        }
        if let Some((_, paths)) = self.groups.get_mut(group) {
            paths.insert(uri, owner);
        }
    }

    /// Who has a match that takes every request this one takes.
    pub fn covering(&self, condition: Option<&HttpMatch>) -> Option<&T> {
        let wider = self.groups.iter().filter(|(wide, _)| implies(condition, *wide));
        wider.into_iter().find_map(|(_, paths)| match condition {
            Some(condition) if condition.ignore_uri_case => paths.all.as_ref(),
            condition => paths.covering(condition.and_then(|condition| condition.uri.as_ref())),
        })
    }
}

/// Whether every request that fulfils the conditions of `narrow` beside its path fulfils those of `wide`.
fn implies(narrow: Option<&HttpMatch>, wide: Option<&HttpMatch>) -> bool {
    let Some(wide) = wide else { return true };
    let nothing = HttpMatch::default();
    let narrow = narrow.unwrap_or(&nothing);
    let texts = [
        (&narrow.scheme, &wide.scheme),
        (&narrow.method, &wide.method),
        (&narrow.authority, &wide.authority),
    ];
    texts.into_iter().all(|(narrow, wide)| text_implies(narrow.as_ref(), wide.as_ref()))
        && all_implied(&narrow.headers, &wide.headers)
        && all_implied(&narrow.query_params, &wide.query_params)
        // Of what must not hold, only the very same tells.
        && wide.without_headers.iter().all(|(name, not)| narrow.without_headers.get(name) == Some(not))
        && wide.port.is_none_or(|port| narrow.port == Some(port))
        && workload_implies(narrow, wide)
}

/// Whether `narrow` is for no gateway and no workload that `wide` is not for. Matches that name gateways do not look
/// at the workload.
fn workload_implies(narrow: &HttpMatch, wide: &HttpMatch) -> bool {
    if !wide.gateways.is_empty() {
        return !narrow.gateways.is_empty()
            && narrow.gateways.iter().all(|gateway| wide.gateways.contains(gateway));
    }
    let is_for_all = wide.source_labels.is_empty() && wide.source_namespace.is_none();
    let labels = wide.source_labels.iter().all(|(key, value)| narrow.source_labels.get(key) == Some(value));
    let namespace = wide.source_namespace.is_none() || wide.source_namespace == narrow.source_namespace;
    is_for_all || (narrow.gateways.is_empty() && labels && namespace)
}

fn all_implied(narrow: &BTreeMap<String, StringMatch>, wide: &BTreeMap<String, StringMatch>) -> bool {
    wide.iter().all(|(name, wide)| {
        let narrow = narrow.get(name);
        narrow.is_some() && text_implies(narrow, Some(wide))
    })
}

fn text_implies(narrow: Option<&StringMatch>, wide: Option<&StringMatch>) -> bool {
    match (narrow, wide) {
        (_, None) | (Some(_), Some(StringMatch::Present)) => true,
        (Some(StringMatch::Exact(narrow) | StringMatch::Prefix(narrow)), Some(StringMatch::Prefix(wide))) => {
            narrow.starts_with(wide.as_str())
        }
        (narrow, wide) => narrow == wide,
    }
}

/// Path conditions seen so far, each with who has it; finds the one that takes all of another.
///
/// Costs a look-up per byte of the path asked for, however many conditions there are.
#[derive(Clone, Debug)]
struct PathCover<'p, T> {
    all: Option<T>,
    prefixes: HashMap<&'p str, T>,
    exact: HashMap<&'p str, T>,
    expressions: HashMap<&'p str, T>,
}

impl<T> Default for PathCover<'_, T> {
    fn default() -> Self {
        Self { all: None, prefixes: HashMap::new(), exact: HashMap::new(), expressions: HashMap::new() }
    }
}

impl<'p, T> PathCover<'p, T> {
    /// Adds a condition; `None` takes every path. Of equal conditions the first stays. Expressions take what the same
    /// expression takes.
    fn insert(&mut self, condition: Option<&'p StringMatch>, owner: T) {
        match condition {
            None | Some(StringMatch::Present) => _ = self.all.get_or_insert(owner),
            Some(StringMatch::Exact(path)) => _ = self.exact.entry(path).or_insert(owner),
            Some(StringMatch::Prefix(prefix)) if prefix == "/" => _ = self.all.get_or_insert(owner),
            Some(StringMatch::Prefix(prefix)) => _ = self.prefixes.entry(prefix).or_insert(owner),
            Some(StringMatch::Regex(all)) if all == ".*" => _ = self.all.get_or_insert(owner),
            Some(StringMatch::Regex(source)) => _ = self.expressions.entry(source).or_insert(owner),
        }
    }

    /// Who has a condition that takes every path this one takes.
    fn covering(&self, condition: Option<&StringMatch>) -> Option<&T> {
        let within = |path: &str| (1..=path.len()).find_map(|end| self.prefixes.get(path.get(..end)?));
        let covering = match condition {
            Some(StringMatch::Exact(path)) => self.exact.get(path.as_str()).or_else(|| within(path)),
            Some(StringMatch::Prefix(prefix)) => within(prefix),
            Some(StringMatch::Regex(source)) => self.expressions.get(source.as_str()),
            Some(StringMatch::Present) | None => None,
        };
        covering.or(self.all.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, testing};

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

    fn of(matches: &str) -> Vec<HttpMatch> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec: {{hosts: [a.com], http: \
             [{{match: {matches}, directResponse: {{status: 200}}}}]}}\n"
        );
        let document = testing::document(&text);
        let [Resource::VirtualService(vs)] = &document.resources[..] else {
            panic!("{:?}", document.findings)
        };
        vs.spec.http[0].matches.clone()
    }

    #[test]
    fn narrower_conditions_are_covered() {
        for (wide, narrow, expected) in [
            (
                "{headers: {a: {exact: x}}}",
                "{headers: {a: {exact: x}, b: {exact: y}}, uri: {prefix: /a}}",
                true,
            ),
            ("{headers: {a: {}}}", "{headers: {a: {regex: x+}}}", true),
            ("{headers: {a: {prefix: x}}}", "{headers: {a: {exact: xy}}}", true),
            ("{headers: {a: {exact: x}}}", "{headers: {a: {prefix: x}}}", false),
            ("{headers: {a: {exact: x}}}", "{headers: {b: {exact: x}}}", false),
            ("{headers: {a: {exact: x}}}", "{uri: {exact: /}}", false),
            (
                "{withoutHeaders: {a: {exact: x}}}",
                "{withoutHeaders: {a: {exact: x}}, method: {exact: GET}}",
                true,
            ),
            ("{withoutHeaders: {a: {}}}", "{withoutHeaders: {a: {exact: x}}}", false),
            ("{method: {exact: GET}, uri: {prefix: /a}}", "{method: {exact: GET}, uri: {exact: /a/b}}", true),
            (
                "{method: {exact: GET}, uri: {prefix: /a}}",
                "{method: {exact: PUT}, uri: {exact: /a/b}}",
                false,
            ),
            (
                "{queryParams: {v: {exact: '1'}}}",
                "{queryParams: {v: {exact: '1'}}, authority: {exact: a.com}}",
                true,
            ),
            ("{port: 80}", "{port: 80, scheme: {exact: http}}", true),
            ("{port: 80}", "{port: 81}", false),
            ("{uri: {regex: '/a|/b'}}", "{uri: {regex: '/a|/b'}, port: 80}", true),
            ("{gateways: [mesh]}", "{gateways: [mesh], port: 80}", true),
            ("{gateways: [mesh]}", "{port: 80}", false),
            ("{port: 80}", "{gateways: [mesh], port: 80}", true),
            ("{sourceLabels: {a: b}}", "{sourceLabels: {a: b, c: d}}", true),
            // Beside gateways, labels are not looked at.
            ("{sourceLabels: {a: b}}", "{sourceLabels: {a: b}, gateways: [mesh]}", false),
            ("{uri: {prefix: /a}, ignoreUriCase: true}", "{uri: {prefix: /a}, ignoreUriCase: true}", false),
            (
                "{headers: {a: {exact: x}}}",
                "{headers: {a: {exact: x}}, uri: {exact: /}, ignoreUriCase: true}",
                true,
            ),
        ] {
            let both = of(&format!("[{wide}, {narrow}]"));
            let mut cover = MatchCover::default();
            cover.insert(Some(&both[0]), ());
            assert_eq!(cover.covering(Some(&both[1])).is_some(), expected, "{wide} {narrow}");
        }
    }
}
