//! What lines of the access log look like (routing §13.1).

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::{Agent, Client, Endpoint, Message, Setup, free_port, gateway, service, virtual_service};

/// A gateway to an endpoint, with these settings of its log.
fn proxy(log: &str, endpoint: &Endpoint) -> (Agent, u16) {
    let port = free_port();
    let rules = "hosts: ['*'], gateways: [gw], http: [{match: [{uri: {prefix: /app}}], route: \
                 [{destination: {host: app}}]}]";
    let resources = [gateway("gw", port, "HTTP", ""), service("app", endpoint), virtual_service("gw", rules)];
    let agent = Setup::router()
        .resources("all.yaml", &resources.join("---\n"))
        .mesh(&format!("accessLogFile: /dev/stdout\n{log}\n"))
        .flags(&["--namespace", "default", "--concurrency", "1"])
        .start();
    agent.await_ready();
    (agent, port)
}

fn endpoint() -> Endpoint {
    Endpoint::answering(|_, _| {
        "HTTP/1.1 201 X\r\ncontent-length: 2\r\nx-long: 0123456789\r\n\r\nok".to_owned()
    })
}

/// Posts four bytes.
fn post(client: &mut Client, path: &str) -> Message {
    let fields = "user-agent: own\"1\"\r\nx-forwarded-for: 1.1.1.1\r\ncontent-length: 4";
    client.send(format!("POST {path} HTTP/1.1\r\nhost: app.example.com\r\n{fields}\r\n\r\nbody")).answer()
}

type Line = BTreeMap<String, String>;

/// What is in a line, with the form in place of a value that differs each time.
fn line(values: impl IntoIterator<Item = (String, String)>) -> Line {
    let of_form = |(name, value): (String, String)| {
        let is_number = || value.parse::<u64>().is_ok();
        let form = match name.as_str() {
            "start_time" if humantime::parse_rfc3339(&value).is_ok() && value.len() == 24 => "time",
            "duration" | "upstream_service_time" if is_number() => "number",
            "request_id" if value.len() == 36 => "id",
            "upstream_local_address" if value.starts_with("127.0.0.1:") => "address",
            _ => &value,
        };
        (name, form.to_owned())
    };
    values.into_iter().map(of_form).collect()
}

/// The lines for a request that the endpoint answers, and for one that no route takes.
fn expected(client: &Client, port: u16, endpoint: &Endpoint) -> [(&'static str, u16, Line); 2] {
    let of = |differing: [(&str, &str); 11]| {
        let client = client.0.local_addr().unwrap().to_string();
        let alike = [
            ("start_time", "time"),
            ("method", "POST"),
            ("protocol", "HTTP/1.1"),
            ("connection_termination_details", "-"),
            ("upstream_transport_failure_reason", "-"),
            ("duration", "number"),
            ("x_forwarded_for", "1.1.1.1,127.0.0.1"),
            ("user_agent", "own\\\"1\\\""),
            ("request_id", "id"),
            ("authority", "app.example.com"),
            ("downstream_local_address", &format!("127.0.0.1:{port}")),
            ("downstream_remote_address", &client),
            ("requested_server_name", "-"),
        ];
        line(alike.into_iter().chain(differing).map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let answered = of([
        ("path", "/app?q=1"),
        ("response_code", "201"),
        ("response_flags", "-"),
        ("bytes_received", "4"),
        ("bytes_sent", "2"),
        ("response_code_details", "via_upstream"),
        ("upstream_service_time", "number"),
        ("upstream_host", &endpoint.address.to_string()),
        ("upstream_cluster", "outbound|80||app.default.svc.cluster.local"),
        ("upstream_local_address", "address"),
        ("route_name", "-"),
    ]);
    let refused = of([
        ("path", "/else"),
        ("response_code", "404"),
        ("response_flags", "NR"),
        // Nobody wants its body.
        ("bytes_received", "0"),
        ("bytes_sent", "0"),
        ("response_code_details", "route_not_found"),
        ("upstream_service_time", "-"),
        ("upstream_host", "-"),
        ("upstream_cluster", "-"),
        ("upstream_local_address", "-"),
        ("route_name", "-"),
    ]);
    [("/app?q=1", 201, answered), ("/else", 404, refused)]
}

/// Istio's line, with the names that its JSON has for the values.
const TEXT: &str = "[start_time] \"method path protocol\" response_code response_flags response_code_details \
    connection_termination_details \"upstream_transport_failure_reason\" bytes_received bytes_sent duration \
    upstream_service_time \"x_forwarded_for\" \"user_agent\" \"request_id\" \"authority\" \"upstream_host\" \
    upstream_cluster upstream_local_address downstream_local_address downstream_remote_address \
    requested_server_name route_name";

#[test]
fn lines_are_istios_where_no_format_is_written() {
    let endpoint = endpoint();
    let (agent, port) = proxy("", &endpoint);
    let mut client = Client::local(port);
    let pattern = format!("^{}$", regex::escape(TEXT));
    let pattern = Regex::new("[a-z_]+").unwrap().replace_all(&pattern, r"(?<$0>\S+)");
    let pattern = Regex::new(&pattern).unwrap();
    for (path, status, expected) in expected(&client, port, &endpoint) {
        assert_eq!(post(&mut client, path).status(), status);
        let said = agent.access_line(&[&format!("POST {path} ")]);
        let found = pattern.captures(&said).unwrap_or_else(|| panic!("{said}"));
        let names = pattern.capture_names().flatten();
        assert_eq!(line(names.map(|name| (name.to_owned(), found[name].to_owned()))), expected, "{said}");
    }
}

#[test]
fn objects_are_istios_where_no_format_is_written() {
    const NUMBERS: [&str; 4] = ["response_code", "bytes_received", "bytes_sent", "duration"];
    let endpoint = endpoint();
    let (agent, port) = proxy("accessLogEncoding: JSON", &endpoint);
    let mut client = Client::local(port);
    for (path, status, expected) in expected(&client, port, &endpoint) {
        assert_eq!(post(&mut client, path).status(), status);
        let said = agent.access_line(&[&format!("\"path\":\"{path}\"")]);
        let object: BTreeMap<String, Value> = serde_json::from_str(&said).unwrap();
        let text = |(name, value): (String, Value)| {
            assert!(
                value.is_null() || value.is_number() == NUMBERS.contains(&name.as_str()),
                "{name}: {said}"
            );
            let text = match value {
                Value::Null => "-".to_owned(),
                Value::String(text) => text.replace('"', "\\\""),
                other => other.to_string(),
            };
            (name, text)
        };
        assert_eq!(line(object.into_iter().map(text)), expected, "{said}");
    }
}

#[test]
fn lines_are_as_they_are_written() {
    let endpoint = endpoint();
    let asked = |log: &str, path: &str| {
        let (agent, port) = proxy(log, &endpoint);
        assert_eq!(post(&mut Client::local(port), path).status(), 201);
        agent.access_line(&["201"])
    };
    // The end of the line is added.
    let format =
        "accessLogFormat: '%RESPONSE_CODE% %REQ(X-NONE?USER-AGENT):4% %RESP(X-LONG):3% %REQ(X-NONE)% 100%%'";
    assert_eq!(asked(format, "/app"), "201 own 012 - 100%");
    let format = "accessLogEncoding: JSON\naccessLogFormat: '{\"a\": {\"code\": \"%RESPONSE_CODE%\", \"of\": \
                  [\"%REQ(:PATH)% %PROTOCOL%\", 1, true]}, \"none\": \"%REQ(X-NONE)%\"}'";
    let object: Value = serde_json::from_str(&asked(format, "/app")).unwrap();
    assert_eq!(object, json!({"a": {"code": 201, "of": ["/app HTTP/1.1", 1, true]}, "none": null}));
}

/// Nobody waits for the client to close: lines of one worker come in the order in which it is through with requests.
#[test]
fn a_request_has_its_line_when_it_is_answered_though_its_connection_lasts() {
    let endpoint = endpoint();
    let (agent, port) = proxy("accessLogFormat: '%REQ(:PATH)%'", &endpoint);
    let mut kept = Vec::new();
    for path in ["/else", "/app"] {
        let mut client = Client::local(port);
        let answer = client.ask(path, "connection: close\r\n").answer();
        assert_eq!(answer.field("connection"), Some("close"), "{path}");
        kept.push(client);
    }
    assert_eq!(Client::local(port).get("/app/last").status(), 201);
    agent.access_line(&["/app/last"]);
    assert_eq!(agent.access_log(), "/else\n/app\n/app/last\n");
}

#[test]
fn a_format_that_nobody_understands_ends_the_start() {
    for (log, wrong) in [
        (
            "accessLogFormat: '%PROTOCOL% %NOPE%'",
            "mesh.yaml:2:18: MeshConfig: accessLogFormat: has the unknown operator `%NOPE%` (found `%PROTOCOL% %NOPE%`",
        ),
        (
            "accessLogEncoding: JSON\naccessLogFormat: '{\"a\": [\"%REQ(A:1%\"]}'",
            "mesh.yaml:3:18: MeshConfig: accessLogFormat: ",
        ),
        ("accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'", "accessLogFormat: is no JSON object"),
    ] {
        let agent = Setup::router().mesh(&format!("accessLogFile: /dev/stdout\n{log}\n")).start();
        crate::support::eventually("the program ends", || agent.ended().is_some());
        assert!(!agent.ended().unwrap().success() && agent.log().contains(wrong), "{log}: {}", agent.log());
    }
}
