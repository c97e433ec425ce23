//! This proxy with the routes that `envoy.yaml` has for Envoy, and the server behind both.

mod conditions;
mod elsewhere;

use std::{io::Read, net::SocketAddr, sync::Arc, thread, time::Duration};

use dataplane::{AccessLog, LogFormat, Settings};
use snapshot::{
    AbortStatus, Cluster, CorsPolicy, Edits, Fault, Format, Forward, HashFunction, HashKey, HashPolicy,
    HeaderEdits, Limits, LoadBalancer, NetworkFilter, PathMatch, PathRewrite, Redirect, RetryCondition,
    RetryOn, RetryPolicy, Rewrite, Route, RouteAction, Share, TextMatch, UpstreamProtocol,
};
use socket2::{Domain, SockRef, Socket, Type};

use super::{Addresses, LOGGED};
use crate::support::{
    Client, Proxy, Upstream, cluster, endpoints, gateway_draft, retrying, route, route_config, to_cluster,
};

pub(super) fn upstream() -> Upstream {
    Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            let path = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            if path != "plain-unanswered" && read_body(&mut client, &head).is_none() {
                return;
            }
            match path {
                "close" => return,
                "timeout" => thread::sleep(Duration::from_secs(1)),
                "nonsense" => _ = client.send("nonsense\r\n\r\n"),
                "try" => thread::sleep(Duration::from_secs(1)),
                "plain-unanswered" => _ = client.rest_or_reset(),
                "busy" => _ = client.send("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"),
                "cut" => {
                    client.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
                    return;
                }
                "cut-trailers" => {
                    let chunks = "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n";
                    client.send(format!("HTTP/1.1 200 OK\r\n{chunks}not a field\r\n\r\n"));
                }
                "stall" => {
                    client.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
                    thread::sleep(Duration::from_secs(3));
                }
                "cut-chunks" => {
                    client.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
                    return;
                }
                "huge" => {
                    let long = "a".repeat(82_000);
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {long}\r\n\r\n");
                    client.send(answer);
                }
                "many" => {
                    let many = "x: 1\r\n".repeat(120);
                    client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{many}\r\n"));
                }
                "reset" => return SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).unwrap(),
                _ => {
                    let length = head.len();
                    // Bytes after the answer to HEAD would be taken for the next answer.
                    let body = if head.starts_with("HEAD") { "" } else { &head };
                    client.send(format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-a: up\r\nx-gone: 1\r\n\
                         access-control-allow-origin: *\r\nserver: fake\r\n\r\n{body}"
                    ));
                }
            }
        }
    })
}

/// Reads the body of a request to its end, as servers do: what is left of one would be taken for the next head. `None`
/// when the client breaks off.
fn read_body(client: &mut Client, head: &str) -> Option<()> {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: Option<usize> = length.map(|length| length.parse().unwrap());
    let is_chunked = head.contains("transfer-encoding: chunked");
    let is_whole = |body: &[u8]| match length {
        Some(length) => body.len() == length,
        None => !is_chunked || body.ends_with(b"0\r\n\r\n"),
    };
    let (mut body, mut byte) = (Vec::new(), [0]);
    while !is_whole(&body) {
        client.0.read_exact(&mut byte).ok()?;
        body.extend(byte);
    }
    Some(())
}

/// An address where connections are neither accepted nor refused: its queue is full.
pub(super) struct Full {
    pub(super) address: SocketAddr,
    _queue: Socket,
    _queued: Vec<Socket>,
}

impl Full {
    pub(super) fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let queue = socket();
        queue.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        queue.listen(0).unwrap();
        let address = queue.local_addr().unwrap();
        let connect = |_| {
            let queued = socket();
            queued.set_nonblocking(true).unwrap();
            // Under way, which says nothing.
            _ = queued.connect(&address);
            queued
        };
        let queued = (0..4).map(connect).collect();
        Self { address: address.as_socket().unwrap(), _queue: queue, _queued: queued }
    }
}

/// This proxy with the routes that [`CONFIG`] has for Envoy, and its access log.
pub(super) fn postern(addresses: Addresses) -> (Proxy, tempfile::NamedTempFile) {
    let Addresses { upstream, refused, full, frames } = addresses;
    let log = tempfile::NamedTempFile::new().unwrap();
    let format = LogFormat::text(&Format::parse(LOGGED).unwrap());
    let access_log = Some(AccessLog::open(log.path()).unwrap().with_format(format));
    // Envoy has it on one route.
    let idle_timeout = Duration::from_millis(500);
    let proxy = Proxy::start(Settings { access_log, idle_timeout, ..Settings::default() }, |address| {
        let mut draft = gateway_draft(address, &[upstream]);
        draft.clusters.push(cluster("empty", endpoints(&[])));
        draft.clusters.push(cluster("refused", endpoints(&[refused])));
        draft.clusters.push(Cluster {
            connect_timeout: Duration::from_millis(250),
            ..cluster("full", endpoints(&[full]))
        });
        let limits = Limits { max_requests: Some(0), ..Limits::default() };
        draft.clusters.push(Cluster { limits, ..cluster("overflow", endpoints(&[upstream])) });
        let key = HashKey::Cookie {
            name: "sid".to_owned(),
            path: Some("/c".to_owned()),
            ttl: Some(Duration::from_secs(60)),
            attributes: vec![("SameSite".to_owned(), Some("Lax".to_owned()))],
        };
        let policy = HashPolicy { key, function: HashFunction::Ring { minimum_size: 1024 } };
        let load_balancer = LoadBalancer::ConsistentHash(policy);
        draft.clusters.push(Cluster { load_balancer, ..cluster("hashed", endpoints(&[upstream])) });
        let limits = Limits { max_retries: Some(0), ..Limits::default() };
        draft.clusters.push(Cluster { limits, ..cluster("once", endpoints(&[upstream])) });
        for address in frames {
            let protocol = UpstreamProtocol::Http2;
            draft.clusters.push(Cluster { protocol, ..cluster("frames", endpoints(&[address])) });
        }
        let NetworkFilter::Http(http) = &mut draft.listeners[0].filter_chains[0].filter else {
            panic!("no HTTP")
        };
        http.grpc_web = true;
        draft.route_configs = vec![route_config("test", routes())];
        draft
    });
    (proxy, log)
}

fn forward(path: &str, id: Option<u32>) -> Route {
    route(PathMatch::prefix(path), RouteAction::Forward(to_cluster(id).into()))
}

fn with(path: &str, change: impl FnOnce(&mut Forward)) -> Route {
    let mut forward: Forward = to_cluster(Some(0)).into();
    change(&mut forward);
    route(PathMatch::prefix(path), RouteAction::Forward(forward))
}

fn rewriting(path: &str, rewrite: PathRewrite) -> Route {
    let rewrite = Rewrite { path: Some(rewrite), authority: None };
    with(path, |forward| forward.rewrite = Some(Box::new(rewrite)))
}

fn edits(remove: &str, set: (&str, &str), add: &[(&str, &str)]) -> Edits {
    let value = |(name, value): (&str, &str)| (name.to_owned(), Format::parse(value).unwrap());
    let add = add.iter().copied().map(value).collect();
    Edits { remove: vec![remove.to_owned()], set: vec![value(set)], add }
}

/// The first of the clusters of HTTP/2.
const FRAMES: u32 = 7;

fn routes() -> Vec<Route> {
    let request = edits(
        "x-gone",
        ("x-set", "%REQ(x-kept)%"),
        &[("x-empty", "%REQ(none)%"), ("x-mix", "a%REQ(none)%b"), ("x-path", "%REQ(:PATH)% %PROTOCOL%")],
    );
    let response = edits("x-gone", ("x-a", "was %RESP(x-a)%"), &[("x-code", "%RESPONSE_CODE%")]);
    let busy = RetryPolicy {
        attempts: 1,
        on: RetryOn { conditions: vec![RetryCondition::ServerError], statuses: Vec::new() },
        ..retrying()
    };
    let redirect = Redirect {
        status: 302,
        path: Some(PathRewrite::Prefix { matched: 9, text: "/new".to_owned() }),
        authority: None,
        port: None,
        scheme: Some("https".to_owned()),
    };
    let cors = CorsPolicy {
        allow_origins: vec![TextMatch::Exact("https://a".to_owned())],
        allow_methods: "GET,PUT".to_owned(),
        allow_headers: "x-a".to_owned(),
        expose_headers: "x-b".to_owned(),
        max_age: Some(60),
        allow_credentials: true,
        ignore_unmatched_preflights: false,
    };
    let direct = |status, body: &str| RouteAction::DirectResponse { status, body: body.to_owned() };
    let one_try = RetryPolicy {
        on: RetryOn { conditions: vec![RetryCondition::ConnectFailure], statuses: Vec::new() },
        per_try_timeout: Some(Duration::from_millis(200)),
        ..retrying()
    };
    let again = busy.clone();
    let slow = RetryPolicy { per_try_timeout: Some(Duration::from_millis(200)), ..busy.clone() };
    let overflowing = RetryPolicy { attempts: 2, ..busy.clone() };
    let delay = |abort: Option<AbortStatus>| {
        let delay = Some((Duration::from_millis(50), Share::ALL));
        Some(Box::new(Fault { delay, abort: abort.map(|status| (status, Share::ALL)) }))
    };
    let grpc = Some(Box::new(Fault { delay: None, abort: Some((AbortStatus::Grpc(5), Share::ALL)) }));
    let abort = Fault { delay: None, abort: Some((AbortStatus::Http(418), Share::ALL)) };
    vec![
        forward("/plain", Some(0)),
        rewriting("/rewrite/", PathRewrite::Prefix { matched: 9, text: "/".to_owned() }),
        rewriting("/whole", PathRewrite::Whole("/other".to_owned())),
        Route { headers: Some(Box::new(HeaderEdits { request, response })), ..forward("/headers", Some(0)) },
        with("/limited", |forward| forward.timeout = Some(Duration::from_secs(5))),
        with("/timeout", |forward| forward.timeout = Some(Duration::from_millis(200))),
        with("/busy", |forward| forward.retries = Some(Arc::new(busy))),
        with("/try", |forward| forward.retries = Some(Arc::new(one_try))),
        Route {
            action: RouteAction::Forward(Forward {
                retries: Some(Arc::new(retrying())),
                ..to_cluster(Some(2)).into()
            }),
            ..forward("/again/refused", None)
        },
        Route {
            action: RouteAction::Forward(Forward {
                retries: Some(Arc::new(overflowing)),
                ..to_cluster(Some(6)).into()
            }),
            ..forward("/again/overflow", None)
        },
        with("/again/try", |forward| forward.retries = Some(Arc::new(slow))),
        with("/again", |forward| forward.retries = Some(Arc::new(again))),
        forward("/idle", Some(0)),
        forward("/full", Some(3)),
        forward("/overflow", Some(4)),
        Route { fault: delay(Some(AbortStatus::Http(418))), ..forward("/delayed-abort", Some(0)) },
        Route { fault: delay(None), ..forward("/delayed", Some(0)) },
        Route { fault: grpc, ..forward("/grpc-fault", Some(0)) },
        forward("/cookie", Some(5)),
        forward("/cut", Some(0)),
        forward("/huge", Some(0)),
        forward("/many", Some(0)),
        forward("/reset", Some(0)),
        forward("/close", Some(0)),
        forward("/nonsense", Some(0)),
        forward("/empty", Some(1)),
        forward("/refused", Some(2)),
        forward("/unknown", None),
        route(PathMatch::prefix("/blocked"), direct(502, "")),
        route(PathMatch::prefix("/forbidden"), direct(403, "no")),
        forward("/frames/0", Some(FRAMES)),
        forward("/frames/1", Some(FRAMES + 1)),
        forward("/frames/2", Some(FRAMES + 2)),
        forward("/frames/3", Some(FRAMES + 3)),
        forward("/frames/4", Some(FRAMES + 4)),
        forward("/frames/5", Some(FRAMES + 5)),
        route(PathMatch::prefix("/direct"), direct(418, "tea")),
        route(PathMatch::prefix("/nothing"), direct(204, "")),
        route(PathMatch::prefix("/redirect"), RouteAction::Redirect(redirect)),
        Route { fault: Some(Box::new(abort)), ..forward("/fault", Some(0)) },
        Route { cors: Some(Box::new(cors)), ..forward("/cors", Some(0)) },
    ]
    .into_iter()
    .chain(elsewhere::routes())
    .chain(conditions::routes())
    .collect()
}
