//! Rules that are left to another VirtualService (`delegate`).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use resources::{
    DefaultExportTo, Delegate, Finding, GatewayRef, HttpMatch, HttpRoute, Object, Path, Problem, ResourceSet,
    Rule, Severity, StringMatch, VirtualService,
};

use crate::visibility::{self, Viewer};

/// Why a rule that delegates makes no routes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Missing {
    Nobody,
    /// The VirtualService has hosts of its own.
    HasHosts,
    /// It is not exported to the namespace of who delegates.
    NotExported,
}

/// The VirtualService that a rule in `namespace` is left to.
pub(super) fn find<'r>(
    delegate: &Delegate,
    (namespace, defaults): (&str, &DefaultExportTo),
    by_name: impl Fn(&str, &str) -> Option<&'r Arc<Object<VirtualService>>>,
) -> Result<&'r Arc<Object<VirtualService>>, Missing> {
    let of = delegate.namespace.as_deref().filter(|of| !of.is_empty()).unwrap_or(namespace);
    let found = by_name(of, &delegate.name).ok_or(Missing::Nobody)?;
    if !found.spec.is_delegate() {
        return Err(Missing::HasHosts);
    }
    let viewer = Viewer { namespace, defaults };
    visibility::virtual_service(found, viewer).map(|_| found).ok_or(Missing::NotExported)
}

/// Why a rule of a delegate is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unfit {
    /// Some match lies within none of the root's.
    Matches,
    /// It delegates in turn.
    Delegates,
}

/// A rule of the delegate as it stands in the place of the rule that delegates.
pub(super) fn merged(root: &HttpRoute, own: &HttpRoute) -> Result<HttpRoute, Unfit> {
    if own.delegate.is_some() {
        return Err(Unfit::Delegates);
    }
    Ok(HttpRoute {
        name: joined(root.name.as_deref(), own.name.as_deref()),
        matches: merged_matches(&root.matches, &own.matches).ok_or(Unfit::Matches)?,
        route: own.route.clone(),
        redirect: own.redirect.clone(),
        direct_response: own.direct_response.clone().or_else(|| root.direct_response.clone()),
        delegate: None,
        rewrite: own.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: own.timeout.or(root.timeout),
        retries: own.retries.clone().or_else(|| root.retries.clone()),
        fault: own.fault.clone().or_else(|| root.fault.clone()),
        mirrors: if own.mirrors.is_empty() { root.mirrors.clone() } else { own.mirrors.clone() },
        cors_policy: own.cors_policy.clone().or_else(|| root.cors_policy.clone()),
        headers: own.headers.clone().or_else(|| root.headers.clone()),
    })
}

/// Says that nobody stands behind a `delegate`.
pub(super) fn not_followed(vs: &Object<VirtualService>, index: usize, missing: Missing) -> Finding {
    let (wrong, remedy) = match missing {
        Missing::Nobody => {
            ("names no VirtualService", "the namespace is that of this one unless it is written")
        }
        Missing::HasHosts => {
            ("names a VirtualService that has hosts of its own", "remove its `hosts` and `gateways`")
        }
        Missing::NotExported => ("names a VirtualService that is not exported here", "extend its `exportTo`"),
    };
    let named = vs.spec.http[index].delegate.as_ref();
    let namespace = named.and_then(|named| named.namespace.as_deref()).unwrap_or(vs.meta.namespace());
    let name = named.map_or("", |named| named.name.as_str());
    let problem =
        Problem::new(format!("{wrong}: the rule is left out")).written(format!("{namespace}/{name}"));
    let spec = Path::ROOT.field("spec");
    let http = spec.field("http");
    let at = http.index(index);
    let (severity, rule) = (Severity::Warning, Rule::UnknownReference);
    vs.meta.finding(severity, rule, &at.field("delegate"), problem.remedy(remedy))
}

/// Says why a rule of a delegate does not stand in the place of the rule that delegates.
pub(super) fn left_out(
    (owner, own_index): (&Object<VirtualService>, usize),
    (root, root_index): (&Object<VirtualService>, usize),
    unfit: Unfit,
) -> Finding {
    let spec = Path::ROOT.field("spec");
    let http = spec.field("http");
    let root_place = root.meta.place_of(&http.index(root_index));
    let problem = match unfit {
        Unfit::Delegates => Problem::new("delegates though it is delegated to: the rule is left out")
            .remedy("delegates go one level deep"),
        Unfit::Matches => Problem::new(format!(
            "has a match that lies within none of {} spec.http[{root_index}] ({root_place}), which delegates to it: \
             the rule is left out",
            root.meta.id
        ))
        .remedy("write exact paths or prefixes that begin with the root's, and no other values for the same headers"),
    };
    owner.meta.finding(Severity::Warning, Rule::Conflict, &http.index(own_index), problem)
}

/// A finding for every VirtualService without hosts that none delegates to.
pub(super) fn unused(resources: &ResourceSet) -> Vec<Finding> {
    let all = resources.virtual_services();
    let named: HashSet<(&str, &str)> = all
        .iter()
        .flat_map(|vs| vs.spec.http.iter().filter_map(move |rule| Some((vs, rule.delegate.as_ref()?))))
        .map(|(vs, to)| {
            let namespace = to.namespace.as_deref().filter(|of| !of.is_empty());
            (namespace.unwrap_or(vs.meta.namespace()), to.name.as_str())
        })
        .collect();
    let unused = all
        .iter()
        .filter(|vs| vs.spec.is_delegate() && !named.contains(&(vs.meta.namespace(), vs.meta.name())));
    let finding = |vs: &Arc<Object<VirtualService>>| {
        let problem =
            Problem::new("has no hosts and no VirtualService delegates to it: its rules have no effect");
        let problem = problem.remedy("add `hosts`, or name it as a `delegate`");
        vs.meta.finding(Severity::Warning, Rule::UnknownReference, &Path::ROOT.field("spec"), problem)
    };
    unused.map(finding).collect()
}

/// `<root>-<delegate>`, or the one that has a name.
fn joined(root: Option<&str>, own: Option<&str>) -> Option<String> {
    match (root, own) {
        (Some(root), Some(own)) => Some(format!("{root}-{own}")),
        (name, own) => name.or(own).map(str::to_owned),
    }
}

/// One match for each pair that fits; `None` when a match of the delegate fits within none of the root's.
fn merged_matches(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || own.is_empty() {
        return Some([root, own].concat());
    }
    let mut merged = Vec::new();
    for own in own {
        let before = merged.len();
        merged.extend(root.iter().filter(|root| fits(root, own)).map(|root| merged_match(root, own)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merged_match(root: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    fn either(own: &Option<StringMatch>, root: &Option<StringMatch>) -> Option<StringMatch> {
        own.clone().or_else(|| root.clone())
    }
    HttpMatch {
        name: joined(root.name.as_deref(), own.name.as_deref()),
        uri: either(&own.uri, &root.uri),
        ignore_uri_case: own.ignore_uri_case,
        scheme: either(&own.scheme, &root.scheme),
        method: either(&own.method, &root.method),
        authority: either(&own.authority, &root.authority),
        headers: united(&root.headers, &own.headers),
        without_headers: united(&root.without_headers, &own.without_headers),
        query_params: united(&root.query_params, &own.query_params),
        port: own.port.or(root.port),
        source_labels: united(&root.source_labels, &own.source_labels),
        source_namespace: own.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        gateways: if own.gateways.is_empty() { root.gateways.clone() } else { own.gateways.clone() },
        stat_prefix: own.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
    }
}

/// Both maps; of equal keys the delegate's value.
fn united<T: Clone>(root: &BTreeMap<String, T>, own: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    root.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether the delegate's match asks for nothing that the root's does not let through.
fn fits(root: &HttpMatch, own: &HttpMatch) -> bool {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let maps = [
        (&root.headers, &own.headers),
        (&root.without_headers, &own.without_headers),
        (&root.query_params, &own.query_params),
    ];
    let same = |root: Option<&String>, own: &String| root.is_none_or(|root| root == own);
    texts.into_iter().all(|(root, own)| text_fits(root.as_ref(), own.as_ref()))
        && maps
            .into_iter()
            .all(|(root, own)| own.iter().all(|(key, own)| text_fits(root.get(key), Some(own))))
        && root.ignore_uri_case == own.ignore_uri_case
        && root.port.is_none_or(|port| own.port.is_none_or(|own| own == port))
        && own.source_labels.iter().all(|(key, own)| same(root.source_labels.get(key), own))
        && own.source_namespace.as_ref().is_none_or(|own| same(root.source_namespace.as_ref(), own))
        && gateways_fit(&root.gateways, &own.gateways)
}

fn gateways_fit(root: &[GatewayRef], own: &[GatewayRef]) -> bool {
    root.is_empty() || own.iter().all(|gateway| root.contains(gateway))
}

/// Whether one text condition lies within another. An expression beside anything else lies nowhere, as in Istio.
fn text_fits(root: Option<&StringMatch>, own: Option<&StringMatch>) -> bool {
    match (root, own) {
        (None, _) | (_, None) => true,
        (Some(StringMatch::Exact(root)), Some(StringMatch::Exact(own))) => root == own,
        (Some(StringMatch::Prefix(root)), Some(StringMatch::Prefix(own) | StringMatch::Exact(own))) => {
            own.starts_with(root.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(uri: StringMatch) -> HttpMatch {
        HttpMatch { uri: Some(uri), ..HttpMatch::default() }
    }

    fn exact(path: &str) -> StringMatch {
        StringMatch::Exact(path.to_owned())
    }

    fn prefix(path: &str) -> StringMatch {
        StringMatch::Prefix(path.to_owned())
    }

    fn regex(path: &str) -> StringMatch {
        StringMatch::Regex(path.to_owned())
    }

    #[test]
    fn narrower_paths_fit() {
        for (root, own, expected) in [
            (prefix("/a"), prefix("/a/b"), true),
            (prefix("/a"), exact("/a"), true),
            (prefix("/a"), prefix("/b"), false),
            (prefix("/a/b"), prefix("/a"), false),
            (exact("/a"), exact("/a"), true),
            (exact("/a"), exact("/b"), false),
            (exact("/a"), prefix("/a"), false),
            (regex("/a"), regex("/a"), false),
            (regex("/a"), exact("/a"), false),
            (prefix("/a"), regex("/a"), false),
        ] {
            assert_eq!(fits(&on(root.clone()), &on(own.clone())), expected, "{root:?} {own:?}");
        }
        assert!(
            fits(&on(regex("/a")), &HttpMatch::default()) && fits(&HttpMatch::default(), &on(regex("/a")))
        );
    }

    #[test]
    fn other_conditions_must_agree() {
        let root = HttpMatch {
            port: Some(80),
            gateways: vec![GatewayRef::Mesh],
            headers: BTreeMap::from([("x-a".to_owned(), exact("1"))]),
            source_labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            ..HttpMatch::default()
        };
        assert!(fits(&root, &HttpMatch::default()));
        assert!(!fits(&root, &HttpMatch { port: Some(81), ..HttpMatch::default() }));
        assert!(!fits(&root, &HttpMatch { ignore_uri_case: true, ..HttpMatch::default() }));
        let other = GatewayRef::Named { namespace: "a".into(), name: "b".into() };
        assert!(!fits(&root, &HttpMatch { gateways: vec![other], ..HttpMatch::default() }));
        let header = |value: &str| HttpMatch {
            headers: BTreeMap::from([("x-a".to_owned(), exact(value)), ("x-b".to_owned(), exact("2"))]),
            ..HttpMatch::default()
        };
        assert!(fits(&root, &header("1")) && !fits(&root, &header("2")));
        let merged = merged_match(&root, &header("1"));
        assert_eq!((merged.headers.len(), merged.port, merged.source_labels.len()), (2, Some(80), 1));
    }

    #[test]
    fn every_match_of_the_delegate_must_fit_somewhere() {
        let root = [on(prefix("/a")), on(prefix("/b"))];
        assert_eq!(merged_matches(&root, &[on(exact("/a/1")), on(exact("/b/1"))]).unwrap().len(), 2);
        assert_eq!(merged_matches(&root, &[HttpMatch::default()]).unwrap().len(), 2);
        assert_eq!(merged_matches(&root, &[on(exact("/a/1")), on(exact("/c"))]), None);
        assert_eq!(merged_matches(&root, &[]).unwrap(), root);
    }
}
