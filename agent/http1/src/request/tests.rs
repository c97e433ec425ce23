use super::*;
use FramingError as F;
use HeadError as H;
use RequestError as R;

/// Parses `head` and hands the request to `check`.
fn with_request<T>(head: &[u8], check: impl FnOnce(Request<'_, '_>) -> T) -> T {
    let mut slots = HeaderSlots::new();
    match parse_request(head, &Limits::default(), &mut slots) {
        Ok(Some(request)) => check(request),
        other => panic!("{:?} for {}", other.map(|_| "incomplete"), head.escape_ascii()),
    }
}

/// Like [`with_request`] for a `GET /` over HTTP/1.1 with a host and the lines given.
fn with_lines<T>(lines: &str, check: impl FnOnce(Request<'_, '_>) -> T) -> T {
    with_request(format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n").as_bytes(), check)
}

fn refusal(head: &[u8]) -> RequestError {
    let mut slots = HeaderSlots::new();
    match parse_request(head, &Limits::default(), &mut slots) {
        Err(error) => error,
        Ok(request) => panic!("{:?} for {}", request.is_some(), head.escape_ascii()),
    }
}

fn refusal_of_lines(lines: &str) -> RequestError {
    refusal(format!("GET / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n").as_bytes())
}

#[test]
fn usual_request_is_taken_apart() {
    let head = b"POST /a?b HTTP/1.1\r\nHost: c:80\r\nX-D:  e f\t\r\nContent-Length: 3\r\n\r\nxyz";
    with_request(head, |request| {
        assert_eq!((request.method, request.target), ("POST", Target::Origin("/a?b")));
        assert_eq!((request.version, request.body), (Version::Http11, BodyLength::Length(3)));
        assert_eq!(request.head_len, head.len() - 3);
        assert_eq!((request.host, request.authority()), (Some("c:80"), Some("c:80")));
        assert!(request.keep_alive && !request.expect_continue && request.upgrade.is_none());
        let fields: Vec<_> = request.headers.iter().map(|header| (header.name, header.value)).collect();
        assert_eq!(fields, [("Host", &b"c:80"[..]), ("X-D", b"e f"), ("Content-Length", b"3")]);
    });
}

#[test]
fn head_is_incomplete_until_its_last_byte() {
    let head = b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for len in 0..head.len() {
        let mut slots = HeaderSlots::new();
        assert!(matches!(parse_request(&head[..len], &Limits::default(), &mut slots), Ok(None)), "{len}");
    }
    with_request(head, |request| assert_eq!(request.head_len, head.len()));
}

#[test]
fn few_empty_lines_before_a_request_are_ignored() {
    with_request(b"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", |request| {
        assert_eq!(request.method, "GET");
    });
    assert_eq!(refusal(b"\r\n\r\n\r\n\r\n\r\n"), R::TooManyEmptyLines);
    assert_eq!(refusal(b"\n"), H::InvalidLineEnd.into());
    assert_eq!(refusal(b"\r\n\nGET"), H::InvalidLineEnd.into());
    assert_eq!(refusal(b"\rGET"), H::InvalidLineEnd.into());
}

#[test]
fn request_line_that_is_malformed_is_refused() {
    for (line, error) in [
        ("GET / HTTP/1.1 ", H::InvalidLineEnd.into()),
        ("GET /", R::InvalidRequestLine),
        ("GET  / HTTP/1.1", R::InvalidRequestLine),
        ("GET\t/ HTTP/1.1", R::InvalidMethod),
        (" GET / HTTP/1.1", R::InvalidMethod),
        ("G(T / HTTP/1.1", R::InvalidMethod),
        ("G\u{e9}T / HTTP/1.1", R::InvalidMethod),
        ("GET /a b HTTP/1.1", R::InvalidRequestLine),
        ("GET /  HTTP/1.1", R::InvalidRequestLine),
        ("GET / http/1.1", R::InvalidRequestLine),
        ("GET / HTTP/1.1x", H::InvalidLineEnd.into()),
        ("GET /a\0b HTTP/1.1", R::InvalidRequestLine),
        ("GET /\u{e9} HTTP/1.1", TargetError::InvalidByte.into()),
        ("GET /a#b HTTP/1.1", TargetError::Fragment.into()),
        ("GET * HTTP/1.1", TargetError::InvalidForm.into()),
    ] {
        assert_eq!(refusal(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()), error, "{line}");
    }
}

#[test]
fn bytes_that_are_no_http_are_refused_at_once() {
    assert_eq!(refusal(b"\x16\x03\x01\x02\x00\x01"), R::InvalidMethod);
    assert_eq!(refusal(b"SSH-2.0-OpenSSH_9\r\n"), R::InvalidMethod);
}

#[test]
fn other_versions_are_refused_with_505() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3"] {
        let error = refusal(format!("GET / {version}\r\nhost: a\r\n\r\n").as_bytes());
        assert_eq!((error, error.status()), (R::UnsupportedVersion, 505), "{version}");
    }
    assert_eq!(refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), R::UnsupportedVersion);
}

#[test]
fn field_lines_that_are_malformed_are_refused() {
    for (line, error) in [
        ("x : 1", H::InvalidName),
        ("x\t: 1", H::InvalidName),
        (" x: 1", H::InvalidName),
        ("\tfolded", H::InvalidName),
        (": 1", H::InvalidName),
        ("x", H::InvalidName),
        ("x y: 1", H::InvalidName),
        ("x\u{e9}: 1", H::InvalidName),
        ("x\0: 1", H::InvalidName),
        ("x: a\0b", H::InvalidValue),
        ("x: a\rb", H::InvalidValue),
        ("x:\rb", H::InvalidValue),
        ("x: a\u{7f}", H::InvalidValue),
        ("x: a\u{1b}", H::InvalidValue),
    ] {
        assert_eq!(refusal_of_lines(line), error.into(), "{line:?}");
    }
}

#[test]
fn line_feed_without_carriage_return_is_refused_everywhere() {
    for head in [
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx:\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\ny: 2\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
    ] {
        assert_eq!(refusal(head.as_bytes()), H::InvalidLineEnd.into(), "{head:?}");
    }
}

#[test]
fn values_may_hold_tabs_bytes_beyond_ascii_and_nothing() {
    with_lines("x: a\tb\u{e9}\r\ny:\r\nz: \t \r\n", |request| {
        let values: Vec<_> = request.headers[1..].iter().map(|header| header.value).collect();
        assert_eq!(values, ["a\tb\u{e9}".as_bytes(), b"", b""]);
    });
}

#[test]
fn head_beyond_its_limit_is_refused_with_431() {
    let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let parse = |head_bytes, len: usize| {
        let mut slots = HeaderSlots::new();
        parse_request(&head[..len], &Limits { head_bytes, ..Limits::default() }, &mut slots)
            .map(|request| request.is_some())
    };
    assert_eq!(parse(head.len(), head.len()), Ok(true));
    assert_eq!(parse(head.len() - 1, head.len()), Err(H::TooLarge.into()));
    assert_eq!(parse(20, 19), Ok(false));
    assert_eq!(parse(20, 20), Err(H::TooLarge.into()));
    assert_eq!(R::from(H::TooLarge).status(), 431);
}

#[test]
fn more_than_a_hundred_fields_are_refused_with_431() {
    with_lines(&"x: 1\r\n".repeat(99), |request| assert_eq!(request.headers.len(), 100));
    let error = refusal_of_lines("x: 1\r\n".repeat(100).trim_end());
    assert_eq!((error, error.status()), (H::TooManyHeaders.into(), 431));
}

#[test]
fn length_and_transfer_encoding_together_are_refused() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "content-length: 5\r\ntransfer-encoding: gzip",
    ] {
        assert_eq!(refusal_of_lines(lines), F::LengthAndTransferEncoding.into(), "{lines}");
    }
}

#[test]
fn framing_that_is_ambiguous_is_refused() {
    for (lines, error, status) in [
        ("content-length: 5\r\ncontent-length: 6", F::SeveralContentLengths, 400),
        ("content-length: 5\r\nContent-Length: 5", F::SeveralContentLengths, 400),
        ("content-length: +5", F::InvalidContentLength, 400),
        ("content-length:", F::InvalidContentLength, 400),
        ("transfer-encoding: chunked, gzip", F::ChunkedNotLast, 400),
        ("transfer-encoding: gzip, chunked", F::UnknownTransferCoding, 501),
        ("transfer-encoding:", F::InvalidTransferEncoding, 400),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", F::ChunkedNotLast, 400),
    ] {
        let found = refusal_of_lines(lines);
        assert_eq!((found, found.status()), (error.into(), status), "{lines}");
    }
}

#[test]
fn request_without_framing_has_no_body_whatever_its_method() {
    with_request(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n", |request| {
        assert_eq!(request.body, BodyLength::Empty);
    });
    with_lines("content-length: 2\r\n", |request| assert_eq!(request.body, BodyLength::Length(2)));
    with_lines("transfer-encoding: chunked\r\n", |request| assert_eq!(request.body, BodyLength::Chunked));
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let head = b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(refusal(head), F::TransferEncodingInHttp10.into());
}

#[test]
fn host_is_required_once_and_valid_in_http_1_1() {
    assert_eq!(refusal(b"GET / HTTP/1.1\r\n\r\n"), R::MissingHost);
    assert_eq!(refusal(b"GET http://a/ HTTP/1.1\r\n\r\n"), R::MissingHost);
    assert_eq!(refusal_of_lines("Host: a"), R::SeveralHosts);
    for host in ["a b", "u@a", "a/b", "a,b", "a:b", "a:80:80", "\u{e9}", "a#", "a?"] {
        let head = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(refusal(head.as_bytes()), R::InvalidHost, "{host}");
    }
}

#[test]
fn host_may_be_missing_in_http_1_0_and_empty_in_either() {
    with_request(b"GET / HTTP/1.0\r\n\r\n", |request| assert_eq!(request.authority(), None));
    with_request(b"GET / HTTP/1.1\r\nhost:\r\n\r\n", |request| assert_eq!(request.authority(), Some("")));
    assert_eq!(refusal(b"GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n"), R::SeveralHosts);
}

#[test]
fn authority_of_the_target_wins_over_host() {
    with_request(b"GET http://b:8080/c HTTP/1.1\r\nhost: a\r\n\r\n", |request| {
        assert_eq!((request.authority(), request.host), (Some("b:8080"), Some("a")));
        assert_eq!(request.target.path_and_query(), "/c");
    });
}

#[test]
fn http_1_1_persists_unless_closed() {
    with_lines("", |request| assert!(request.keep_alive));
    for lines in [
        "connection: close\r\n",
        "connection: x, Close\r\n",
        "connection: keep-alive\r\nConnection: close\r\n",
        "connection: close\r\nconnection: keep-alive\r\n",
    ] {
        with_lines(lines, |request| assert!(!request.keep_alive, "{lines}"));
    }
    with_lines("connection: closed\r\nproxy-connection: close\r\n", |request| assert!(request.keep_alive));
}

#[test]
fn http_1_0_closes_unless_kept_alive() {
    let keep_alive = |lines: &str| {
        with_request(format!("GET / HTTP/1.0\r\n{lines}\r\n").as_bytes(), |request| request.keep_alive)
    };
    assert!(!keep_alive(""));
    assert!(keep_alive("connection: Keep-Alive\r\n"));
    assert!(!keep_alive("connection: keep-alive, close\r\n"));
}

#[test]
fn expectation_of_100_continue_is_seen_in_http_1_1_only() {
    with_lines("expect: 100-Continue\r\n", |request| assert!(request.expect_continue));
    with_lines("expect: 200-ok\r\n", |request| assert!(!request.expect_continue));
    with_request(b"GET / HTTP/1.0\r\nexpect: 100-continue\r\n\r\n", |request| {
        assert!(!request.expect_continue);
    });
}

#[test]
fn upgrade_counts_only_if_connection_lists_it() {
    with_lines("connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n", |request| {
        assert_eq!(request.upgrade, Some("websocket"));
    });
    with_lines("upgrade: a\r\nconnection: upgrade\r\nupgrade: b\r\n", |request| {
        assert_eq!(request.upgrade, Some("a"));
    });
    with_lines("upgrade: websocket\r\n", |request| assert_eq!(request.upgrade, None));
    with_lines("connection: upgrade\r\n", |request| assert_eq!(request.upgrade, None));
    with_lines("connection: upgrade\r\nupgrade:\r\n", |request| assert_eq!(request.upgrade, None));
    with_request(b"GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", |request| {
        assert_eq!(request.upgrade, None);
    });
}

#[test]
fn connect_has_an_authority_and_no_body() {
    let head = |lines: &str| format!("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n{lines}\r\n");
    with_request(head("content-length: 0\r\n").as_bytes(), |request| {
        assert_eq!((request.target, request.body.is_empty()), (Target::Authority("a:443"), true));
        assert_eq!(request.authority(), Some("a:443"));
    });
    for lines in ["content-length: 1\r\n", "transfer-encoding: chunked\r\n"] {
        assert_eq!(refusal(head(lines).as_bytes()), F::BodyNotAllowed.into());
    }
}

#[test]
fn too_many_names_in_connection_are_refused() {
    assert_eq!(
        refusal_of_lines(&format!("connection: {}", "a,".repeat(17))),
        H::TooManyConnectionNames.into()
    );
}
