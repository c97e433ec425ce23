use std::{rc::Rc, sync::LazyLock};

use super::*;
use crate::tls::ClientCertificate;

fn recorded(format: &LogFormat, fields: &[&[u8]]) -> Recorded {
    let mut recorded = Recorded::default();
    recorded.start("HTTP/1.1");
    for (wanted, value) in format.slots().request.iter().zip(fields) {
        let mut value = Some(value);
        recorded.push(wanted, |_, out| out.extend_from_slice(value.take().map_or(&[][..], |value| value)));
    }
    recorded
}

fn request() -> Recorded {
    let fields: [&[u8]; 6] = [b"GET", b"/a\"b\x01", b"", b"curl/8", b"id", b"a.com"];
    recorded(&LogFormat::default(), &fields)
}

fn entry(request: Option<&Recorded>) -> Entry<'_> {
    static ENDPOINT: LazyLock<Address> = LazyLock::new(|| ([10, 0, 0, 9], 8080).into());
    Entry {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_micros(2500),
        request,
        status: if request.is_some() { 200 } else { 0 },
        flags: "",
        details: "via_upstream",
        termination: "",
        transport_failure: None,
        received: 0,
        sent: 12,
        request_ended: Some(Duration::ZERO),
        answer_began: Some(Duration::from_micros(1250)),
        grpc_status: Some(5),
        attempts: 2,
        upstream_protocol: Some("HTTP/2"),
        upstream: Some(&*ENDPOINT),
        cluster: Some("outbound|80||a.default.svc.cluster.local"),
        own_end: None,
        connection: 7,
        chain: None,
        downstream_local: "10.96.0.1:80".parse().unwrap(),
        downstream_remote: "10.0.0.1:40000".parse().unwrap(),
        downstream_direct_remote: "10.0.0.1:40000".parse().unwrap(),
        downstream_unix: None,
        server_name: None,
        session: None,
        route: Some("default"),
    }
}

fn line(entry: &Entry<'_>) -> String {
    written(entry, &LogFormat::default())
}

fn written(entry: &Entry<'_>, format: &LogFormat) -> String {
    let mut out = Vec::new();
    format.write_line(entry, &mut out);
    String::from_utf8(out).unwrap()
}

fn text(format: &str) -> LogFormat {
    LogFormat::text(&snapshot::Format::parse(format).unwrap())
}

#[test]
fn a_users_format_is_followed_and_its_line_ended() {
    let format = text("%REQ(:METHOD)% [%REQ(X-B?:METHOD):2%] %RESPONSE_CODE% %TRAILER(A)% 100%%");
    let request = recorded(&format, &[b"GET", b"POST"]);
    assert_eq!(format.slots().request.len(), 2);
    assert_eq!(written(&entry(Some(&request)), &format), "GET [PO] 200 - 100%\n");
    assert_eq!(written(&entry(None), &format), "- [-] 0 - 100%\n");
}

#[test]
fn fields_of_the_answer_and_its_trailers_stand_beside_those_of_the_request() {
    let format =
        text("%REQ_WITHOUT_QUERY(:PATH)% %RESP(X-A)% %TRAILER(T)% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%");
    let mut request = recorded(&format, &[b"/a?secret"]);
    let slots = format.slots().clone();
    assert_eq!(written(&entry(Some(&request)), &format), "/a - - 1\n");
    request.begin_answer();
    request.push(&slots.answer[0], |_, out| out.extend_from_slice(b"answer"));
    request.begin_trailers();
    request.push(&slots.trailers[0], |_, out| out.extend_from_slice(b"trailer"));
    assert_eq!(written(&entry(Some(&request)), &format), "/a answer trailer 1\n");
}

#[test]
fn times_flags_and_statuses_are_written_as_envoy_does() {
    let line = |format: &str, flags: &'static str| {
        let request = recorded(&text(format), &[]);
        written(&Entry { flags, ..entry(Some(&request)) }, &text(format))
    };
    assert_eq!(
        line("%RESPONSE_FLAGS_LONG% %RESPONSE_FLAGS%", "UF,URX"),
        "UpstreamConnectionFailure,UpstreamRetryLimitExceeded UF,URX\n"
    );
    assert_eq!(
        line("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", ""),
        "NotFound NOT_FOUND 5\n"
    );
    assert_eq!(
        line("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %DURATION%", ""),
        "0 1 1 2\n"
    );
    assert_eq!(
        line("%COMMON_DURATION(US_RX_BEG:DS_TX_END:us)% %UPSTREAM_PROTOCOL% %EMIT_TIME(%s)%", ""),
        "1250 HTTP/2 0\n"
    );
    assert_eq!(
        line("%UPSTREAM_REMOTE_PORT% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %FILTER_STATE(a)%", ""),
        "8080 2 -\n"
    );
    assert_eq!(line("%ENVIRONMENT(POSTERN_NEVER_SET)%", ""), "-\n");
}

#[test]
fn a_value_that_is_cut_stays_within_its_quotes() {
    let format = text("\"%REQ(A):1%\" \"%REQ(A):3%\" \"%REQ(A):4%\"");
    let request = recorded(&format, &[b"\"\\\""]);
    let expected = "\"\" \"\\\"\" \"\\\"\\\\\"\n";
    assert_eq!(written(&entry(Some(&request)), &format), expected);
}

#[test]
fn json_has_numbers_texts_nulls_lists_and_objects() {
    let parsed = |value: &str| JsonFormat::Text(snapshot::Format::parse(value).unwrap());
    let list = JsonFormat::List(vec![JsonFormat::Literal("true".to_owned()), parsed("%BYTES_SENT%")]);
    let members = vec![
        ("b".to_owned(), parsed("%RESPONSE_CODE%")),
        ("a".to_owned(), parsed("%REQ(:PATH)%")),
        ("c".to_owned(), parsed("x %PROTOCOL%")),
        (
            "d".to_owned(),
            JsonFormat::Object(vec![("e".to_owned(), parsed("%ROUTE_NAME%")), ("f".to_owned(), list)]),
        ),
    ];
    let format = LogFormat::json(members);
    let request = recorded(&format, &[b"/a\"\n\xff"]);
    let known = Entry { route: None, ..entry(Some(&request)) };
    assert_eq!(
        written(&known, &format),
        "{\"a\":\"/a\\\"\\n\u{fffd}\",\"b\":200,\"c\":\"x HTTP/1.1\",\"d\":{\"e\":null,\"f\":[true,12]}}\n"
    );
    let json = written(&entry(None), &LogFormat::default_json());
    assert!(json.starts_with("{\"authority\":null,\"bytes_received\":0,"), "{json}");
}

#[test]
fn json_values_are_escaped_once_whatever_they_are_made_of() {
    let parsed = |value: &str| JsonFormat::Text(snapshot::Format::parse(value).unwrap());
    let session = Session {
        client: Some(Rc::new(ClientCertificate { uris: "spiffe://a\\b".to_owned(), ..Default::default() })),
        ..Session::default()
    };
    for (format, said, expected) in [
        ("<%REQ(A)%>", &b"a\"b\\c\xe9\n"[..], "<a\\\"b\\\\c\u{fffd}\\n>"),
        ("%REQ(A)%", b"a\"b\\c\x01\xc3\xa9", "a\\\"b\\\\c\\u0001é"),
        ("%REQ(A):2% %REQ(A):2%", b"\"\"\"", "\\\"\\\" \\\"\\\""),
        ("%REQ(A)% %ROUTE_NAME% %RESPONSE_CODE%", b"", "- default 200"),
        ("%DOWNSTREAM_PEER_URI_SAN% %REQUESTED_SERVER_NAME%", b"", "spiffe://a\\\\b s\\\"n"),
        ("%DOWNSTREAM_PEER_URI_SAN%", b"", "spiffe://a\\\\b"),
        ("100%%", b"", "100%"),
    ] {
        let json = LogFormat::json(vec![("k".to_owned(), parsed(format))]);
        let request = recorded(&json, &[said]);
        let entry = Entry { session: Some(&session), server_name: Some("s\"n"), ..entry(Some(&request)) };
        assert_eq!(written(&entry, &json), format!("{{\"k\":\"{expected}\"}}\n"), "{format}");
    }
}

#[test]
fn a_request_prints_in_istios_default_format_and_cannot_break_out_of_its_quotes() {
    assert_eq!(
        line(&entry(Some(&request()))),
        "[1970-01-01T00:00:00.000Z] \"GET /a\\\"b\\x01 HTTP/1.1\" 200 - via_upstream - \"-\" 0 12 2 1 \"-\" \
         \"curl/8\" \"id\" \"a.com\" \"10.0.0.9:8080\" outbound|80||a.default.svc.cluster.local - \
         10.96.0.1:80 10.0.0.1:40000 - default\n"
    );
}

#[test]
fn a_connection_prints_dashes_for_the_request() {
    assert!(line(&entry(None)).contains("\"- - -\" 0 - via_upstream"));
}

#[test]
fn lines_arrive_at_the_output_and_a_stuck_output_loses_lines_instead_of_blocking() {
    struct Stuck(Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (_keep, blocked) = channel();
    let log = AccessLog::start(Stuck(blocked)).unwrap();
    let buffer = LogBuffer::new(log.clone());
    for _ in 0..bounds::LOG_PIECES + 10 {
        buffer.record(&entry(None));
        buffer.flush();
    }
    assert!((8..=10).contains(&log.lost_lines()), "{}", log.lost_lines());
}

#[test]
fn what_tls_says_of_a_peer_stays_within_its_quotes() {
    let reason = r#"TLS_error:_not_it's_name_"a\b""#;
    let failed = Entry {
        details: "upstream_reset_before_response_started{remote_connection_failure}",
        transport_failure: Some(reason),
        termination: reason,
        ..entry(None)
    };
    let escaped = r#"TLS_error:_not_it's_name_\"a\\b\""#;
    for operator in
        ["UPSTREAM_TRANSPORT_FAILURE_REASON", "CONNECTION_TERMINATION_DETAILS", "RESPONSE_CODE_DETAILS"]
    {
        let line = written(&failed, &text(&format!("\"%{operator}%\" after")));
        assert!(line.contains(escaped) && line.ends_with("\" after\n"), "{operator}: {line}");
    }
}
