//! The tables of `docs/operations.md` under "Limits" against the code: every number of every row, and every bound.

use std::{collections::HashSet, time::Duration};

use dataplane::bounds as dp;

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/operations.md");

/// The bounds of every crate that has some, to be found in the rows below.
const SOURCES: [&str; 4] = [
    include_str!("../bounds.rs"),
    include_str!("../../dataplane/src/bounds.rs"),
    include_str!("../../http1/src/bounds.rs"),
    include_str!("../../sources/src/bounds.rs"),
];

fn number(value: impl TryInto<u64>) -> String {
    value.try_into().unwrap_or(u64::MAX).to_string()
}

fn bytes(value: impl TryInto<u64>) -> String {
    number(value) + " B"
}

fn time(value: Duration) -> String {
    format!("{} s", value.as_secs())
}

fn percent(value: u64) -> String {
    format!("{value} %")
}

/// What each row says, in the document's order: how it begins, and its numbers. Those written out here are not ours, or
/// no limits.
#[rustfmt::skip]
fn rows() -> Vec<(&'static str, Vec<String>)> {
    let said = |text: &str| text.to_owned();
    let [admin, agent, readiness, metrics] = INTERFACE_TIMES.map(time);
    let [small, large, bulk] = dp::SPARE_BUFFERS.map(number);
    let [lent_large, lent_bulk] = dp::LENT_BUFFERS.map(number);
    vec![
        ("memory (`VmRSS`)", vec![percent(UNTAKEN_GIVEN_UP_FROM), said("0")]),
        ("", vec![percent(REQUESTS_REFUSED_FROM)]),
        ("", vec![percent(CONNECTIONS_REFUSED_FROM)]),
        ("connections from clients", vec![said("0")]),
        ("connections of one worker", vec![number(OTHER_FILES), number(FEWEST_CONNECTIONS)]),
        ("idle, or nothing asked yet", vec![time(dp::KEEP_ALIVE), said("0")]),
        ("TLS handshake", vec![time(dp::HANDSHAKE_TIME), time(dp::HANDSHAKE_TIME)]),
        ("TLS handshakes under way in one worker", vec![number(dp::HANDSHAKES)]),
        // As many as rustls remembers.
        ("TLS sessions remembered to be resumed", vec![said("256"), said("256")]),
        ("handshakes that compute between two looks", vec![number(dp::HANDSHAKES_IN_ONE_ROUND)]),
        ("log lines about connections that are not served", vec![number(dp::LOG_BURST), said("2")]),
        ("head of an HTTP/1 request, once begun", vec![time(dp::HEAD_TIME)]),
        ("where the protocol is detected", vec![time(dp::HEAD_TIME), time(dp::HANDSHAKE_TIME)]),
        ("preface of HTTP/2 with its SETTINGS", vec![time(dp::HEAD_TIME)]),
        ("a body, or an answer to a client that does not read", vec![time(dp::STANDSTILL)]),
        ("an answer that does not come", vec![]),
        ("a request, until it is there", vec![]),
        ("a request with its answer", vec![]),
        ("an HTTP connection", vec![]),
        ("bytes read after an answer that closes", vec![bytes(dp::LINGER_BYTES), time(dp::LINGER_TIME)]),
        ("head of a request", vec![
            bytes(dp::http1::HEAD_BYTES), number(dp::http1::HEAD_FIELDS),
            number(dp::LARGEST_HEAD >> 10), number(dp::MOST_FIELDS),
        ]),
        ("head of an answer", vec![]),
        ("interim answers (1xx) to one request", vec![bytes(dp::INTERIM_BYTES), bytes(dp::INTERIM_EACH)]),
        ("names in `connection`", vec![number(dp::http1::CONNECTION_NAMES)]),
        ("chunk extensions of a body beyond its data", vec![bytes(dp::http1::EXTENSION_EXCESS)]),
        ("trailers of an HTTP/1 body", vec![bytes(dp::http1::TRAILER_BYTES), number(dp::http1::TRAILERS)]),
        ("body", vec![]),
        ("requests of one connection at a time", vec![number(dp::STREAMS), bytes(dp::HEADS_OF_CONNECTION)]),
        ("bytes a client may send ahead", vec![bytes(dp::STREAM_WINDOW), bytes(dp::CONNECTION_WINDOW)]),
        ("bytes of answers that wait for one client", vec![
            bytes(2 * dp::FRAME), bytes(dp::LARGE_BUFFER), bytes(dp::SMALL_BUFFER), number(dp::CROWDED_STREAMS as u64),
        ]),
        ("requests taken back by the client", vec![number(dp::TAKEN_BACK)]),
        // The h2 crate's.
        ("requests taken back before they were looked at", vec![said("20")]),
        ("CONTINUATION frames, small DATA frames", vec![]),
        ("requests that share a connection to an endpoint", vec![number(dp::SHARED_BY)]),
        ("bytes an endpoint may send ahead", vec![
            bytes(dp::ENDPOINT_WINDOW), number(dp::ENDPOINT_WINDOWS / dp::ENDPOINT_WINDOW),
            bytes(dp::ENDPOINT_WINDOWS), bytes(dp::SMALLEST_ENDPOINT_WINDOW),
        ]),
        ("bytes of a request that wait for its endpoint", vec![bytes(2 * dp::FRAME)]),
        ("endpoints tried for one connection or request", vec![number(dp::TRIED_ENDPOINTS)]),
        ("idle connections to one endpoint", vec![number(dp::IDLE_CONNECTIONS)]),
        ("hosts whose TLS connections", vec![number(dp::HOSTS)]),
        // The reader of DestinationRules knows the second.
        ("consistent hash table", vec![number(dp::RING), said("5000011")]),
        ("places of such a table", vec![number(dp::MADE_AT_ONCE)]),
        ("body of a request that is kept for another try", vec![bytes(dp::KEPT_BODY)]),
        ("copies of mirrored requests under way", vec![number(dp::COPIES), bytes(dp::KEPT_BODY), time(dp::COPY_TIME)]),
        ("such bodies and copies together", vec![bytes(dp::HELD_BODIES), percent(HELD_BODIES_SHARE)]),
        ("original destinations remembered", vec![number(dp::ORIGINAL_DESTINATIONS)]),
        ("buffers of an opaque connection", vec![bytes(dp::SMALL_BUFFER), bytes(dp::BULK_BUFFER)]),
        ("buffers larger than that", vec![
            lent_large, bytes(dp::LARGE_BUFFER), lent_bulk, bytes(dp::BULK_BUFFER),
        ]),
        ("kept for later use, per worker", vec![
            small, large, bulk, number(dp::SPARE_WORKSPACES), number(dp::SPARE_SCRATCH), bytes(dp::LARGEST_SCRATCH),
        ]),
        ("pipes for opaque bytes in bulk", vec![number(dp::PIPES), bytes(dp::PIPE), said("10 s")]),
        ("an opaque connection without a byte moving", vec![time(dp::STANDSTILL), said("0")]),
        ("`connectionPool` limits", vec![]),
        ("PROXY header", vec![
            bytes(dp::PROXY_LINE), said("1"), bytes(dp::PROXY_HEADER), said("2"), time(dp::HANDSHAKE_TIME),
        ]),
        ("names resolved at the same time", vec![number(dp::QUESTIONS_AT_ONCE), number(dp::QUESTIONS_AT_ONCE)]),
        ("questions for names that requests ask for", vec![number(dp::WAITING_QUESTIONS), time(dp::QUESTION_TIME)]),
        ("names that requests ask for, remembered", vec![number(dp::ASKED_NAMES), time(dp::ASKED_NAMES_UNUSED)]),
        ("former addresses of a `DNS_ROUND_ROBIN` name", vec![number(dp::FORMER_ADDRESSES)]),
        ("time to live of a resolved name", vec![
            time(dp::SHORTEST_TTL), time(dp::LONGEST_TTL), time(dp::USUAL_TTL), said("0"),
        ]),
        // What the length of a message over TCP can say.
        ("addresses of a name", vec![said("65536 B")]),
        ("addresses in an answer to the workload", vec![bytes(DNS_DATAGRAM), said("512"), said("65536 B")]),
        ("the workload's questions under way", vec![number(DNS_QUESTIONS), time(DNS_PATIENCE), number(DNS_SERVERS as u64)]),
        ("connections with questions of the workload", vec![number(DNS_CONNECTIONS), time(DNS_IDLE)]),
        ("lines of the log on stderr", vec![number(LOG_LINES)]),
        ("access log lines that wait", vec![number(dp::LOG_PIECES), bytes(dp::LOG_PIECE)]),
        ("series of metrics that one worker counts", vec![
            number(dp::SERIES),
            // Measured, with names of 60 bytes.
            bytes(45_u64 << 20),
            number(dp::CROWDED_SERIES), time(dp::UNUSED_SERIES),
        ]),
        ("other sides of calls", vec![number(dp::PEERS), number(dp::INTRODUCTIONS)]),
        ("connections to one port of 15000", vec![
            number(INTERFACE_CONNECTIONS), number(INTERFACE_CONNECTIONS_OF_ONE), admin, agent, readiness, metrics,
            time(INTERFACE_HEAD),
        ]),
        ("time that one who asks these may take", vec![time(INTERFACE_READING)]),
        ("what such a connection reads and writes ahead", vec![bytes(INTERFACE_BUFFER)]),
        ("texts of 15000 that may be long", vec![number(METRICS_READERS), time(METRICS_READING)]),
        ("metrics that are being sent", vec![number(METRICS_READERS), bytes(METRICS_PIECE), time(METRICS_READING)]),
        ("texts of the application's metrics", vec![number(METRICS_TEXTS)]),
        ("body of a request to these", vec![bytes(INTERFACE_BODY)]),
        ("what an application answers a probe", vec![bytes(PROBE_ANSWER)]),
        ("the application's own metrics", vec![bytes(APPLICATION_METRICS)]),
        ("a file of resources", vec![bytes(sources::bounds::RESOURCE_FILE)]),
        ("a file of certificates or keys", vec![bytes(sources::bounds::CERTIFICATE_FILE)]),
        ("connections that wait to be accepted", vec![number(dp::BACKLOG)]),
    ]
}

/// The first two cells of every row under "Limits".
fn written() -> Vec<(&'static str, &'static str)> {
    let (_, limits) = DOCUMENT.split_once("\n## Limits\n").expect("there is a section of limits");
    let limits = limits.split("\n## ").next().unwrap_or_default();
    let rows = limits.lines().filter(|line| line.starts_with('|'));
    let rows = rows.filter(|line| !line.starts_with("| what |") && !line.starts_with("| ---"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    })
    .collect()
}

/// The numbers of a text outside of code, each with its unit: bytes, seconds or percent.
fn numbers(text: &str) -> Vec<String> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let words: Vec<&str> = prose.split([' ', '(', ')']).filter(|word| !word.is_empty()).collect();
    let mut found = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let digits = word.trim_end_matches([',', ';', ':', '.']).replace(',', "");
        let Ok(value) = digits.parse::<u64>() else { continue };
        // A comma behind the number ends it.
        let unit =
            if word.ends_with([',', ';']) { "" } else { words.get(index + 1).copied().unwrap_or_default() };
        found.push(match unit.trim_end_matches([',', ';', ':', '.']) {
            "KiB" => bytes(value << 10),
            "MiB" => bytes(value << 20),
            "bytes" => bytes(value),
            "h" => format!("{} s", value * 3600),
            "min" => format!("{} s", value * 60),
            "s" => format!("{value} s"),
            "%" => percent(value),
            _ => number(value),
        });
    }
    found
}

#[test]
fn every_number_of_the_document_is_what_the_code_holds_to() {
    let (rows, written) = (rows(), written());
    for (row, (what, limit)) in rows.iter().zip(&written) {
        assert!(what.starts_with(row.0), "the document has `{what}` where `{}` was", row.0);
        assert_eq!(numbers(limit), row.1, "`{what}`: {limit}");
    }
    assert_eq!(rows.len(), written.len(), "rows of the document without a bound, or the other way around");
    assert!(DOCUMENT.contains(&format!("below {SERVED_AGAIN_BELOW} % everybody is served again")));
    let [at_ease, refused] = [dp::UNTAKEN, dp::UNTAKEN_WHILE_REFUSED].map(|time| time.as_secs());
    assert!(
        DOCUMENT
            .contains(&format!("taken nothing for {at_ease} s, or {refused} s while requests are refused"))
    );
    assert!(DOCUMENT.contains(&format!("until {AT_EASE_BELOW} % are reached")));
}

/// A bound that is told nowhere is one that users meet without warning.
#[test]
fn every_bound_is_in_the_document() {
    let (_, rows) = include_str!("tests.rs").split_once("fn rows()").unwrap();
    let named: HashSet<_> = rows.split(|char: char| !char.is_ascii_alphanumeric() && char != '_').collect();
    for source in SOURCES {
        let bounds = source.lines().filter_map(|line| line.split_once("const ")?.1.split_once(": "));
        for (name, _) in bounds.filter(|(name, _)| !matches!(*name, "KIB" | "MIB")) {
            assert!(named.contains(name), "`{name}` is in no row");
        }
    }
}

#[test]
fn the_numbers_of_a_text() {
    let text =
        "15 s for the hello, 1,232 bytes (512 for some), 64 KiB; `a 7`, HTTP/2 or 10 min: 90 %, up to 256, 3";
    assert_eq!(numbers(text), ["15 s", "1232 B", "512", "65536 B", "600 s", "90 %", "256", "3"]);
}
