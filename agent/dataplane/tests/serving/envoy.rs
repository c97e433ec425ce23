//! The same requests to Envoy and to this proxy, compared field by field. Needs a real Envoy: `scripts/compare-envoy`
//! names it in `ENVOY`.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use dataplane::Settings;
use snapshot::{
    AbortStatus, CorsPolicy, Edits, Fault, Format, Forward, HeaderEdits, PathMatch, PathRewrite, Redirect,
    RetryCondition, RetryOn, RetryPolicy, Rewrite, Route, RouteAction, Share, TextMatch,
};

use crate::support::{
    Answer, Client, Proxy, Upstream, cluster, endpoints, free_address, gateway_draft, retrying, route,
    route_config, to_cluster,
};

/// What is asked for: a request line and its fields; every case is compared.
const CASES: &[&str] = &[
    "GET /plain?q=1 HTTP/1.1\nhost: test\nx-kept: 1\nx-forwarded-for: 9.9.9.9\nx-forwarded-proto: https\n\
     x-request-id: mine\nx-forwarded-host: h\nx-envoy-retry-on: 5xx\nx-envoy-max-retries: 3\n\
     x-envoy-upstream-rq-timeout-ms: 1\nx-envoy-unknown: 1\nx-envoy-internal: true\n\
     x-envoy-external-address: 1.1.1.1\nx-envoy-original-path: /o\nx-envoy-decorator-operation: o\n\
     x-envoy-attempt-count: 7\nx-envoy-expected-rq-timeout-ms: 9\nx-envoy-ip-tags: t\n\
     x-envoy-force-trace: 1\nx-envoy-peer-metadata: m\nx-client-trace-id: c\n\n",
    "GET /rewrite/a?b=/rewrite/ HTTP/1.1\nhost: test\n\n",
    "GET /whole/a?b HTTP/1.1\nhost: test\n\n",
    "GET /headers HTTP/1.1\nhost: test\nx-gone: 1\nx-set: old\nx-kept: k\n\n",
    "GET /limited HTTP/1.1\nhost: test\n\n",
    "GET /timeout HTTP/1.1\nhost: test\n\n",
    "GET /busy HTTP/1.1\nhost: test\n\n",
    "GET /close HTTP/1.1\nhost: test\n\n",
    "GET /nonsense HTTP/1.1\nhost: test\n\n",
    "GET /empty HTTP/1.1\nhost: test\n\n",
    "GET /refused HTTP/1.1\nhost: test\n\n",
    "GET /unknown HTTP/1.1\nhost: test\n\n",
    "GET /direct?q HTTP/1.1\nhost: test\n\n",
    "GET /nothing HTTP/1.1\nhost: test\n\n",
    "GET /redirect/a?b HTTP/1.1\nhost: test:8080\n\n",
    "GET /fault HTTP/1.1\nhost: test\n\n",
    "GET / HTTP/1.1\nhost: test\n\n",
    "OPTIONS /cors HTTP/1.1\nhost: test\norigin: https://a\naccess-control-request-method: PUT\n\n",
    "OPTIONS /cors HTTP/1.1\nhost: test\norigin: https://b\naccess-control-request-method: PUT\n\n",
    "GET /cors HTTP/1.1\nhost: test\norigin: https://a\n\n",
    "POST /empty HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /unknown HTTP/1.1\nhost: test\ncontent-type: application/grpc+proto\ncontent-length: 0\n\n",
    "POST / HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /refused HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /timeout HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
    "POST /fault HTTP/1.1\nhost: test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
];

#[test]
fn answers_and_forwarded_requests_are_those_of_envoy() {
    let Some(program) = std::env::var_os("ENVOY") else {
        println!("skipped: ENVOY names no Envoy; see scripts/compare-envoy");
        return;
    };
    let upstream = upstream();
    let refused = free_address();
    let envoy = Envoy::start(Command::new(program), upstream.address, refused);
    let ours = postern(upstream.address, refused);
    let mut differences = Vec::new();
    for case in CASES {
        let (theirs, ours) = (ask(envoy.address, case), ask(ours.address, case));
        if theirs != ours {
            let line = case.lines().next().unwrap_or_default();
            differences.push(format!("{line}\n--- Envoy\n{theirs}\n--- Postern\n{ours}\n"));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        CASES.len(),
        differences.join("\n")
    );
}

/// An answer in a form that can be compared: the order of fields and what differs each time left out.
fn ask(address: SocketAddr, case: &str) -> String {
    let Answer { head, body } = Client::connect(address).send(case.replace('\n', "\r\n")).answer();
    let body = String::from_utf8(body).unwrap();
    if body.contains(" HTTP/1.1\r\n") {
        // The forwarded request, whose length tells of fields that are left out.
        let head = head.replace(&format!("content-length: {}\r\n", body.len()), "");
        return format!("{}\n\n{}", comparable(&head), comparable(&body));
    }
    format!("{}\n\n{body}", comparable(&head))
}

fn comparable(head: &str) -> String {
    let mut lines = head.trim_end().lines();
    // Reason phrases mean nothing.
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("HTTP/1.1 ").map_or(first, |status| &status[..3]);
    let mut fields: Vec<_> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let name = name.to_ascii_lowercase();
            // Envoy tells its own address for clients on loopback.
            let value = match name.as_str() {
                "date" | "x-envoy-upstream-service-time" | "x-request-id" | "x-envoy-external-address" => "*",
                "x-forwarded-for" => value.rsplit_once(',').map_or("*", |(before, _)| before),
                _ => value,
            };
            format!("{name}: {value}")
        })
        .collect();
    // Envoy adds it to requests without a body; RFC 9110 §8.6 asks for it only where a body is usual.
    fields.retain(|field| field != "content-length: 0");
    fields.sort();
    format!("{first}\n{}", fields.join("\n"))
}

fn upstream() -> Upstream {
    Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            match head.split(['/', ' ']).nth(2).unwrap_or_default() {
                "close" => return,
                "timeout" => thread::sleep(Duration::from_secs(1)),
                "nonsense" => _ = client.send("nonsense\r\n\r\n"),
                "busy" => _ = client.send("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"),
                _ => {
                    let length = head.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-a: up\r\nx-gone: 1\r\n");
                    client
                        .send(answer)
                        .send("access-control-allow-origin: *\r\nserver: fake\r\n\r\n")
                        .send(head);
                }
            }
        }
    })
}

/// This proxy with the routes that [`CONFIG`] has for Envoy.
fn postern(upstream: SocketAddr, refused: SocketAddr) -> Proxy {
    Proxy::start(Settings::default(), |address| {
        let mut draft = gateway_draft(address, &[upstream]);
        draft.clusters.push(cluster("empty", endpoints(&[])));
        draft.clusters.push(cluster("refused", endpoints(&[refused])));
        draft.route_configs = vec![route_config("test", routes())];
        draft
    })
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
    let abort = Fault { delay: None, abort: Some((AbortStatus::Http(418), Share::ALL)) };
    vec![
        forward("/plain", Some(0)),
        rewriting("/rewrite/", PathRewrite::Prefix { matched: 9, text: "/".to_owned() }),
        rewriting("/whole", PathRewrite::Whole("/other".to_owned())),
        Route { headers: Some(Box::new(HeaderEdits { request, response })), ..forward("/headers", Some(0)) },
        with("/limited", |forward| forward.timeout = Some(Duration::from_secs(5))),
        with("/timeout", |forward| forward.timeout = Some(Duration::from_millis(200))),
        with("/busy", |forward| forward.retries = Some(Arc::new(busy))),
        forward("/close", Some(0)),
        forward("/nonsense", Some(0)),
        forward("/empty", Some(1)),
        forward("/refused", Some(2)),
        forward("/unknown", None),
        route(PathMatch::prefix("/direct"), direct(418, "tea")),
        route(PathMatch::prefix("/nothing"), direct(204, "")),
        route(PathMatch::prefix("/redirect"), RouteAction::Redirect(redirect)),
        Route { fault: Some(Box::new(abort)), ..forward("/fault", Some(0)) },
        Route { cors: Some(Box::new(cors)), ..forward("/cors", Some(0)) },
    ]
}

/// A running Envoy.
struct Envoy {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Envoy {
    fn start(mut program: Command, upstream: SocketAddr, refused: SocketAddr) -> Self {
        let address = free_address();
        let ports = [("GATEWAY", address), ("UPSTREAM", upstream), ("REFUSED", refused)];
        let config = ports.iter().fold(CONFIG.to_owned(), |config, (name, address)| {
            config.replace(name, &address.port().to_string())
        });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("envoy.yaml");
        fs::write(&file, config).unwrap();
        program.arg("-c").arg(&file).args(["--concurrency", "1", "--disable-hot-restart", "-l", "critical"]);
        let process = program.stderr(Stdio::piped()).spawn().unwrap();
        let mut envoy = Self { process, address, _directory: directory };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return envoy;
            }
            thread::sleep(Duration::from_millis(50));
        }
        envoy.process.kill().unwrap();
        let said = BufReader::new(envoy.process.stderr.take().unwrap()).lines().map_while(Result::ok);
        panic!("Envoy does not listen: {}", said.collect::<Vec<_>>().join("\n"));
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

const CONFIG: &str = include_str!("envoy.yaml");
