//! The same requests to Envoy and to this proxy, compared field by field: answers, forwarded requests, access log lines.
//! What Envoy said is recorded; `scripts/compare-envoy` asks a real one, and with `UPDATE_GOLDEN=1` records it anew.

mod cases;
mod http2;
mod program;
mod proxy;

use std::{
    collections::HashMap,
    fs,
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use self::{
    cases::{CASES, GONE, HTTP2, LAST},
    program::Envoy,
    proxy::{Full, postern, upstream},
};
use crate::support::{Answer, Client, free_address};

/// What Envoy said, one case after the other.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serving/envoy/answers.txt");

#[test]
fn answers_forwarded_requests_and_log_lines_are_those_of_envoy() {
    let (upstream, full) = (upstream(), Full::new());
    let frames = http2::BEHAVIOURS.map(http2::Behaviour::start);
    let addresses = Addresses {
        upstream: upstream.address,
        refused: free_address(),
        full: full.address,
        frames: frames.each_ref().map(|upstream| upstream.address),
    };
    if let Some(program) = std::env::var_os("ENVOY") {
        let envoy = Envoy::start(Command::new(program), addresses);
        let answers = answers(envoy.address, &envoy.log).join("");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(RECORDED, &answers).unwrap();
        }
        assert_eq!(answers, fs::read_to_string(RECORDED).unwrap(), "Envoy says other things than recorded");
    }
    let (postern, log) = postern(addresses);
    let recorded = fs::read_to_string(RECORDED).unwrap();
    let recorded: Vec<_> = recorded.split_inclusive(END).collect();
    let answers = answers(postern.address, log.path());
    assert_eq!(recorded.len(), answers.len(), "scripts/compare-envoy records what Envoy says");
    let differing = recorded.iter().zip(&answers).filter(|(theirs, ours)| theirs != ours);
    let differences: Vec<_> =
        differing.map(|(theirs, ours)| format!("--- Envoy\n{theirs}--- Postern\n{ours}")).collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// Where both proxies send requests.
#[derive(Clone, Copy)]
struct Addresses {
    upstream: SocketAddr,
    refused: SocketAddr,
    full: SocketAddr,
    /// Endpoints of HTTP/2, by what they do.
    frames: [SocketAddr; http2::BEHAVIOURS.len()],
}

/// Ends what is recorded of a case.
const END: &str = "\n====\n";

/// What a proxy makes of every case: the answer, or the request that it forwards, and its log line.
fn answers(proxy: SocketAddr, log: &Path) -> Vec<String> {
    let many = format!("GET /plain HTTP/1.1\nhost: test\n{}\n", "x-a: 1\n".repeat(101));
    let huge = format!("GET /plain HTTP/1.1\nhost: test\nx-a: {}\n\n", "a".repeat(61 * 1024));
    let last = LAST.iter().copied().chain([&many[..], &huge[..]]).map(|case| (case, Asked::Last));
    let over_http2 = HTTP2.iter().map(|case| (*case, Asked::OverHttp2));
    let first = CASES.iter().map(|case| (*case, Asked::First));
    let cases: Vec<_> = first.chain(last).chain(over_http2).collect();
    let asked: Vec<_> = cases.iter().map(|case| ask(proxy, *case)).collect();
    let port = |client: &TcpStream| client.local_addr().unwrap().port();
    let ports: Vec<_> = asked.iter().map(|(_, client)| port(client)).collect();
    let lines = lines(log, &ports);
    let told = |((case, how), (answer, client)): (&(&str, Asked), &(String, TcpStream))| {
        let line = comparable_line(&lines[&port(client)], answer);
        let asked = case.lines().next().unwrap_or_default();
        let asked = if *how == Asked::OverHttp2 { asked.replace("/1.1", "/2") } else { asked.to_owned() };
        format!("{asked}\n\n{}\n\n{line}{END}", answer.trim_end())
    };
    cases.iter().zip(&asked).map(told).collect()
}

/// How a case is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    /// On a connection that goes on.
    First,
    /// On one that ends with it.
    Last,
    OverHttp2,
}

/// Lines of both access logs; the client's port tells whose it is.
const LOGGED: &str = "%DOWNSTREAM_REMOTE_PORT% \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %REQ(:AUTHORITY)% %ROUTE_NAME% \
    %RESPONSE_FLAGS_LONG% [%REQ(X-SET)% %RESP(X-A)% %RESP(SERVER)% \
    %RESP(NONE?CONTENT-TYPE):8%] %UPSTREAM_PROTOCOL% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %GRPC_STATUS% \
    %GRPC_STATUS_NUMBER% %TRAILER(NONE)%\n";

/// A line without what differs for good reason.
fn comparable_line(line: &str, answer: &str) -> String {
    const STATUS: usize = 3;
    const SENT: usize = 9;
    let mut words: Vec<_> = line.split(' ').collect();
    // How long an echoed request is depends on fields that are left out.
    if answer.contains(" HTTP/1.1\n") {
        words[SENT] = "*";
    }
    // What the filter of Envoy makes of trailers hides the status from its log.
    if answer.contains("application/grpc-web") && words.len() > 4 {
        let status = words.len() - 3;
        words.drain(status..);
    }
    // Of a head that cannot be used nothing is remembered.
    if words.get(STATUS) == Some(&"400") {
        words = words[STATUS..=SENT].to_vec();
    }
    words.join(" ")
}

/// The lines for connections from these ports, when they are written.
fn lines(log: &Path, ports: &[u16]) -> HashMap<u16, String> {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap();
        let by_port = |line: &str| {
            let (port, line) = line.split_once(' ')?;
            Some((port.parse().ok()?, line.to_owned()))
        };
        let lines: HashMap<u16, String> = text.lines().filter_map(by_port).collect();
        if ports.iter().all(|port| lines.contains_key(port)) {
            return lines;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "lines are missing:\n{text}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// An answer in a form that can be compared, and the client's connection: while it is kept, nobody else has its port.
fn ask(address: SocketAddr, (case, how): (&str, Asked)) -> (String, TcpStream) {
    let mut client = Client::connect(address);
    if how == Asked::OverHttp2 {
        let answer = http2::ask(client.0.try_clone().unwrap(), case);
        return (shown_bytes(answer.into_bytes()), client.0);
    }
    if how == Asked::First {
        return (shown(client.send(case.replace('\n', "\r\n")).answer()), client.0);
    }
    let (said, rest) = case.split_once("\n\n").unwrap();
    for said in format!("{said}\n\n{rest}").replace('\n', "\r\n").split_inclusive(['~', GONE]) {
        // It may have been answered and closed before the end.
        client.send(said.trim_end_matches(['~', GONE]));
        match said.chars().last() {
            Some('~') => thread::sleep(Duration::from_millis(100)),
            Some(GONE) => _ = client.0.shutdown(Shutdown::Write),
            _ => {}
        }
    }
    (shown_bytes(client.rest_or_reset()), client.0)
}

fn shown_bytes(mut answer: Vec<u8>) -> String {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let body = answer.split_off(end);
    shown(Answer { head: String::from_utf8(answer).unwrap(), body })
}

/// The order of fields and what differs each time are left out.
fn shown(Answer { head, body }: Answer) -> String {
    let body = String::from_utf8(body).unwrap_or_else(|bytes| bytes.as_bytes().escape_ascii().to_string());
    if body.contains(" HTTP/1.1\r\n") {
        // The forwarded request, whose length tells of fields that are left out.
        let head = head.replace(&format!("content-length: {}\r\n", body.len()), "");
        return format!("{}\n\n{}", comparable(&head), comparable(&body));
    }
    format!("{}\n\n{body}", comparable(&head))
}

fn comparable(head: &str) -> String {
    let mut lines = head.trim_end().lines();
    // Reason phrases mean nothing, and which version of HTTP/1 an answer names neither.
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").or(first.strip_prefix("HTTP/1.0 "));
    let first = status.map_or(first, |status| &status[..3]);
    let mut fields: Vec<_> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            let name = name.to_ascii_lowercase();
            // Envoy tells its own address for clients on loopback.
            // The value comes from addresses.
            let masked = match (name.as_str(), value.split_once("; ")) {
                ("set-cookie", Some((_, attributes))) => format!("*; {attributes}"),
                _ => value.to_owned(),
            };
            let value = match name.as_str() {
                "set-cookie" => &masked,
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
