//! Which calls have a line in the access log.

use std::fs;

use dataplane::{AccessLog, LogFormat, Settings};
use snapshot::{AccessLogging, Draft, Format, LogFilter, Logged, PathMatch, RouteAction};

use crate::support::{Proxy, eventually, gateway_draft, route, route_config};

/// Answers `/bad` with 500 and everything else with 200, and logs what the argument says.
fn draft(proxy: std::net::SocketAddr, client: Logged) -> Draft {
    let answer = |status| RouteAction::DirectResponse { status, body: "".into() };
    let bad = PathMatch::exact("/bad");
    let mut draft = gateway_draft(proxy, &[]);
    draft.route_configs =
        vec![route_config("*", vec![route(bad, answer(500)), route(PathMatch::Any, answer(200))])];
    draft.access_logging = AccessLogging { client, server: Logged::Everything };
    draft
}

#[test]
fn the_log_follows_the_snapshot_on_open_connections() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let format = LogFormat::text(&Format::parse("%REQ(:PATH)% %RESPONSE_CODE%").unwrap());
    let access_log = Some(AccessLog::open(log.path()).unwrap().with_format(format));
    let settings = Settings { access_log, ..Settings::default() };
    let mut proxy = Proxy::start(settings, |address| draft(address, Logged::Nothing));
    let mut client = proxy.connect();
    let mut ask = |path: &str| _ = client.get(path).status();
    ask("/never");
    proxy.publish(draft(proxy.address, Logged::What(LogFilter::parse("response.code >= 400").unwrap())));
    ask("/good");
    ask("/bad");
    proxy.publish(draft(proxy.address, Logged::Nothing));
    ask("/off");
    proxy.publish(draft(proxy.address, Logged::Everything));
    ask("/last");
    let lines = || fs::read_to_string(log.path()).unwrap();
    eventually("the last line", || lines().contains("/last"));
    assert_eq!(lines(), "/bad 500\n/last 200\n");
}
