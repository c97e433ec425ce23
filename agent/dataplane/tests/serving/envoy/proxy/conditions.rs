//! Routes with conditions besides the path, with what `envoy.yaml` says of them.

use snapshot::{HeaderMatch, PathMatch, QueryMatch, Route, RouteAction, RouteMatch, TextMatch};

use crate::support::route;

pub(super) fn routes() -> impl Iterator<Item = Route> {
    let one = || TextMatch::Exact("1".to_owned());
    let header = |condition, invert| {
        let headers = vec![HeaderMatch { name: "x-v".to_owned(), condition, invert }];
        RouteMatch { headers, ..RouteMatch::default() }
    };
    let query = |condition| {
        let query_params = vec![QueryMatch { name: "q".to_owned(), condition }];
        RouteMatch { query_params, ..RouteMatch::default() }
    };
    [
        ("/match/exact", header(one(), false)),
        ("/match/prefix", header(TextMatch::Prefix("1,".to_owned()), false)),
        ("/match/present", header(TextMatch::Present, false)),
        ("/match/without", header(one(), true)),
        ("/match/absent", header(TextMatch::Present, true)),
        ("/match/query", query(one())),
        ("/match/any-query", query(TextMatch::Present)),
    ]
    .into_iter()
    .map(|(path, conditions)| {
        let action = RouteAction::DirectResponse { status: 200, body: "matched".to_owned() };
        let plain = route(PathMatch::prefix(path), action);
        Route { matches: RouteMatch { path: plain.matches.path, ..conditions }, ..plain }
    })
}
