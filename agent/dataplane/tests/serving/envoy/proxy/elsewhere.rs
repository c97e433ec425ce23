//! Routes that rewrite and redirect, with what `envoy.yaml` says of them.

use snapshot::{
    ClusterTarget, PathMatch, PathRewrite, Redirect, RedirectPort, Rewrite, Route, RouteAction,
    SearchPattern, WeightedClusters,
};

use super::{edits, rewriting, with};
use crate::support::{route, to_cluster};

pub(super) fn routes() -> Vec<Route> {
    let expression = |search: &str, replacement: &str| PathRewrite::Regex {
        search: SearchPattern::new(search).unwrap(),
        replacement: replacement.to_owned(),
    };
    let authority = Rewrite {
        path: Some(PathRewrite::Prefix { matched: 10, text: "/inner".to_owned() }),
        authority: Some("inner.example:8080".to_owned()),
    };
    let routes = [
        rewriting("/same", PathRewrite::Prefix { matched: 5, text: "/same".to_owned() }),
        rewriting("/expression/none", expression("never", "x")),
        rewriting("/expression", expression("/v([0-9]+)", r"/\1\1")),
        with("/authority", |forward| forward.rewrite = Some(Box::new(authority))),
        edited(),
    ];
    routes.into_iter().chain(redirects()).collect()
}

/// A rule and its destination that change the same fields.
fn edited() -> Route {
    let of = |who| edits("x-gone", ("x-who", who), &[("x-b", who), ("x-a", who)]);
    let both = |who| Some(Box::new(snapshot::HeaderEdits { request: of(who), response: of(who) }));
    let target = |weight| ClusterTarget {
        weight,
        headers: both("destination"),
        ..to_cluster(Some(0)).targets()[0].clone()
    };
    let clusters = WeightedClusters::new(vec![target(1), ClusterTarget { weight: 0, ..target(0) }]).unwrap();
    Route {
        headers: both("rule"),
        ..route(PathMatch::prefix("/edited"), RouteAction::Forward(clusters.into()))
    }
}

fn redirects() -> impl Iterator<Item = Route> {
    let plain = || Redirect { status: 301, path: None, authority: None, port: None, scheme: None };
    let whole = |path: &str| Some(PathRewrite::Whole(path.to_owned()));
    let https = || Some("https".to_owned());
    let host = |host: &str| Some(host.to_owned());
    [
        ("/to/path", Redirect { path: whole("/new"), ..plain() }),
        ("/to/query", Redirect { path: whole("/new?own=1"), ..plain() }),
        ("/to/host-port", Redirect { authority: host("b.com:99"), ..plain() }),
        ("/to/host", Redirect { authority: host("b.com"), status: 308, ..plain() }),
        ("/to/https", Redirect { scheme: https(), ..plain() }),
        ("/to/8443", Redirect { scheme: https(), port: Some(RedirectPort::Number(8443)), ..plain() }),
    ]
    .into_iter()
    .map(|(path, redirect)| route(PathMatch::prefix(path), RouteAction::Redirect(redirect)))
}
