//! Requests to either proxy, and their answers, forwarded requests and log lines in a form that can be compared.

pub(super) mod frames;
pub(super) mod http2;
pub(super) mod upstream;

use std::{net::Shutdown, thread, time::Duration};

use super::Proxy;
use crate::support::Client;

/// How a case is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// On a connection that goes on.
    First,
    /// On one that ends with it.
    Last,
    /// By a client of HTTP/2, written as a request of HTTP/1.
    OverHttp2,
    /// The same, frame by frame: fields, a body and trailers, each behind an empty line.
    InFrames,
}

/// In a case that is asked on a connection that ends with it: a pause, and the end of the client's bytes.
const PAUSE: char = '~';
pub(super) const GONE: char = '\u{4}';

/// Lines of both access logs; the connection's ports tell whose it is.
pub(super) const LOGGED: &str = "%DOWNSTREAM_REMOTE_PORT%-%DOWNSTREAM_LOCAL_PORT% \
    \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %REQ(:AUTHORITY)% %ROUTE_NAME% \
    %RESPONSE_FLAGS_LONG% [%REQ(X-SET)% %RESP(X-A)% %RESP(SERVER)% \
    %RESP(NONE?CONTENT-TYPE):8%] %UPSTREAM_PROTOCOL% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_HOST% \
    %UPSTREAM_CLUSTER_RAW% %GRPC_STATUS% %GRPC_STATUS_NUMBER% %TRAILER(NONE)%\n";

/// What a proxy makes of cases, each at a place: the answer, or the request that it forwards, and its log line.
pub(super) fn answers(proxy: &Proxy, cases: &[(&str, &str, Asked)]) -> Vec<String> {
    let ask = |(place, case, how): &(&str, &str, Asked)| ask(proxy.port(place), case, *how);
    told(proxy, cases, cases.iter().map(ask).collect())
}

/// The same of cases that wait for a time to pass, all at once.
pub(super) fn answers_at_once(proxy: &Proxy, cases: &[(&str, &str, Asked)]) -> Vec<String> {
    let asked = thread::scope(|scope| {
        let asking: Vec<_> = cases
            .iter()
            .map(|(place, case, how)| scope.spawn(|| ask(proxy.port(place), case, *how)))
            .collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    told(proxy, cases, asked)
}

fn told(proxy: &Proxy, cases: &[(&str, &str, Asked)], asked: Vec<Answered>) -> Vec<String> {
    let ports: Vec<_> = asked.iter().map(|asked| asked.ports.clone()).collect();
    // Of a connection that was ended for a frame there may be none: then the next one's tells that none will come.
    let may_lack = cases.iter().all(|(_, _, how)| *how == Asked::InFrames);
    let lines = if may_lack {
        proxy.lines_before(&ports, ask(proxy.port(cases[0].0), MARK, Asked::First).ports)
    } else {
        proxy.lines(&ports)
    };
    let told = |(((place, case, how), Answered { answer, .. }), line): (
        (&(&str, &str, Asked), &Answered),
        &String,
    )| {
        let asked = match how {
            Asked::First | Asked::Last => case.lines().next().unwrap_or_default().to_owned(),
            Asked::OverHttp2 => case.lines().next().unwrap_or_default().replace("/1.1", "/2"),
            Asked::InFrames => case.escape_debug().to_string(),
        };
        if *how == Asked::InFrames && frames::is_refused(answer, line) {
            return format!("{place}: {asked}\n\nrefused");
        }
        let line = comparable_line(line, answer);
        format!("{place}: {asked}\n\n{}\n\n{line}", answer.trim_end())
    };
    cases.iter().zip(&asked).zip(&lines).map(told).collect()
}

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
    // Envoy names the endpoint that it picked and did not ask.
    if words.get(STATUS + 1) == Some(&"UO") {
        let host = words.len() - 5;
        words[host] = "-";
    }
    // The program names the cluster that does not exist, which tells what is missing.
    if words.get(STATUS + 1) == Some(&"NC") {
        words.retain(|word| *word != "-" && !word.starts_with("outbound|"));
    }
    // Of a head that cannot be used nothing is remembered.
    if words.get(STATUS) == Some(&"400") || words.contains(&"path_normalization_failed") {
        words = words[STATUS..=SENT].to_vec();
    }
    words.join(" ")
}

const MARK: &str = "GET /mark HTTP/1.1\nhost: test\n\n";

/// An answer in a form that can be compared.
struct Answered {
    answer: String,
    /// Those of the connection, as the lines have them.
    ports: String,
    /// While it is kept, nobody else has them.
    _client: Client,
}

fn ask(port: u16, case: &str, how: Asked) -> Answered {
    let mut client = Client::local(port);
    let ports = client.ports();
    let answer = match how {
        Asked::First => {
            let answer = client.send(case.replace('\n', "\r\n")).answer();
            shown(&answer.head, answer.body.into_bytes())
        }
        Asked::Last => {
            say_all(&mut client, case);
            shown_bytes(client.rest())
        }
        Asked::OverHttp2 => shown_bytes(http2::ask(client.0.try_clone().unwrap(), case).into_bytes()),
        Asked::InFrames => frames::ask(&mut client, case),
    };
    Answered { answer, ports, _client: client }
}

fn say_all(client: &mut Client, case: &str) {
    for said in case.replace('\n', "\r\n").split_inclusive([PAUSE, GONE]) {
        // It may have been answered and closed before the end.
        client.send(said.trim_end_matches([PAUSE, GONE]));
        match said.chars().last() {
            Some(PAUSE) => thread::sleep(Duration::from_millis(100)),
            Some(GONE) => _ = client.0.shutdown(Shutdown::Write),
            _ => {}
        }
    }
}

fn shown_bytes(mut answer: Vec<u8>) -> String {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let body = answer.split_off(end);
    shown(&String::from_utf8(answer).unwrap(), body)
}

/// The order of fields and what differs each time are left out.
fn shown(head: &str, body: Vec<u8>) -> String {
    let body = String::from_utf8(body).unwrap_or_else(|bytes| bytes.as_bytes().escape_ascii().to_string());
    if body.contains(" HTTP/1.1\r\n") {
        // The forwarded request, whose length tells of fields that are left out.
        let head =
            format!("{}\r\n", head.trim_end()).replace(&format!("content-length: {}\r\n", body.len()), "");
        return format!("{}\n\n{}", comparable(&head), comparable(&body));
    }
    format!("{}\n\n{body}", comparable(head))
}

pub(super) fn comparable(head: &str) -> String {
    let mut lines = head.trim_end().lines();
    // Reason phrases mean nothing, and which version of HTTP/1 an answer names neither.
    let first = lines.next().unwrap_or_default();
    let status = first.strip_prefix("HTTP/1.1 ").or(first.strip_prefix("HTTP/1.0 "));
    let first = status.map_or(first, |status| &status[..3]);
    let mut fields: Vec<_> = lines.map(comparable_field).collect();
    // Envoy adds it to requests without a body; RFC 9110 §8.6 asks for it only where a body is usual.
    fields.retain(|field| field != "content-length: 0");
    fields.sort();
    format!("{first}\n{}", fields.join("\n"))
}

fn comparable_field(line: &str) -> String {
    let (name, value) = line.split_once(": ").unwrap_or((line, ""));
    let name = name.to_ascii_lowercase();
    let value = match (name.as_str(), value.split_once("; ")) {
        // The value comes from addresses.
        ("set-cookie", Some((_, attributes))) => format!("*; {attributes}"),
        // Envoy tells its own address for clients on loopback.
        ("date" | "x-envoy-upstream-service-time" | "x-request-id" | "x-envoy-external-address", _) => {
            "*".to_owned()
        }
        ("x-forwarded-for", _) => value.rsplit_once(',').map_or("*", |(before, _)| before).to_owned(),
        // Blanks around a value mean nothing.
        _ => value.trim().to_owned(),
    };
    format!("{name}: {value}")
}
