use super::*;
use FramingError as F;
use HeadError as H;
use ResponseError as R;

fn with_response_to<T>(method: &str, head: &str, check: impl FnOnce(Response<'_, '_>) -> T) -> T {
    let mut slots = HeaderSlots::new();
    match parse_response(head.as_bytes(), &Limits::default(), method, &mut slots) {
        Ok(Some(response)) => check(response),
        other => panic!("{:?} for {head:?}", other.map(|_| "incomplete")),
    }
}

fn with_response<T>(head: &str, check: impl FnOnce(Response<'_, '_>) -> T) -> T {
    with_response_to("GET", head, check)
}

fn refusal(head: &str) -> ResponseError {
    let mut slots = HeaderSlots::new();
    match parse_response(head.as_bytes(), &Limits::default(), "GET", &mut slots) {
        Err(error) => error,
        Ok(response) => panic!("{:?} for {head:?}", response.is_some()),
    }
}

fn body_of(method: &str, head: &str) -> BodyLength {
    with_response_to(method, head, |response| response.body)
}

#[test]
fn usual_response_is_taken_apart() {
    let head = "HTTP/1.1 404 Not Found\r\nServer: a\r\nContent-Length: 3\r\n\r\n";
    with_response(&format!("{head}abc"), |response| {
        assert_eq!((response.status, response.reason), (404, "Not Found"));
        assert_eq!((response.version, response.body), (Version::Http11, BodyLength::Length(3)));
        assert_eq!((response.head_len, response.headers.len()), (head.len(), 2));
        assert!(response.keep_alive && !response.is_interim());
    });
}

#[test]
fn head_is_incomplete_until_its_last_byte() {
    let head = b"HTTP/1.1 200 OK\r\na: b\r\n\r\n";
    for len in 0..head.len() {
        let mut slots = HeaderSlots::new();
        assert!(
            matches!(parse_response(&head[..len], &Limits::default(), "GET", &mut slots), Ok(None)),
            "{len}"
        );
    }
}

#[test]
fn reason_may_be_empty_missing_or_beyond_ascii() {
    for line in ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.1 200 \u{e9}"] {
        with_response(&format!("{line}\r\n\r\n"), |response| {
            assert_eq!((response.status, response.reason), (200, ""));
        });
    }
}

#[test]
fn status_line_that_is_malformed_is_refused() {
    for (line, error) in [
        ("HTTP/1.1 20 OK", R::InvalidStatusLine),
        ("HTTP/1.1 2000 OK", R::InvalidStatusLine),
        ("HTTP/1.1 2x0 OK", R::InvalidStatusLine),
        ("HTTP/1.1  200 OK", R::InvalidStatusLine),
        ("HTTP/1.1 200 O\0K", R::InvalidStatusLine),
        ("HTTP/1.1 200 O\rK", R::InvalidStatusLine),
        ("HTTP/1.1 099 X", R::InvalidStatus),
        ("HTTP/2 200 OK", R::UnsupportedVersion),
        ("ICY 200 OK", R::UnsupportedVersion),
        (" HTTP/1.1 200 OK", R::UnsupportedVersion),
        ("\r\nHTTP/1.1 200 OK", R::InvalidStatusLine),
        ("\nHTTP/1.1 200 OK", R::InvalidStatusLine),
    ] {
        let found = refusal(&format!("{line}\r\n\r\n"));
        assert_eq!((found, found.status()), (error, 502), "{line:?}");
    }
}

#[test]
fn fields_are_held_to_the_same_rules_as_in_requests() {
    for (lines, error) in [
        ("a : b", H::InvalidName.into()),
        (" folded: b", H::InvalidName.into()),
        ("a: \0", H::InvalidValue.into()),
        ("a: b\nc: d", H::InvalidLineEnd.into()),
        ("content-length: 5\r\ncontent-length: 6", F::SeveralContentLengths.into()),
        ("content-length: 5\r\ntransfer-encoding: chunked", F::LengthAndTransferEncoding.into()),
        ("transfer-encoding: gzip", R::Framing(F::UnknownTransferCoding)),
        ("transfer-encoding: gzip, chunked", F::UnknownTransferCoding.into()),
    ] {
        assert_eq!(refusal(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n")), error, "{lines:?}");
    }
    assert_eq!(
        refusal(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101))),
        H::TooManyHeaders.into()
    );
    assert_eq!(refusal(&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(70_000))), H::TooLarge.into());
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    assert_eq!(
        refusal("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        F::TransferEncodingInHttp10.into()
    );
}

#[test]
fn body_ends_by_length_or_chunks_or_close() {
    assert_eq!(body_of("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), BodyLength::Length(0));
    assert_eq!(body_of("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), BodyLength::Chunked);
    assert_eq!(body_of("GET", "HTTP/1.1 200 OK\r\n\r\n"), BodyLength::UntilClose);
}

#[test]
fn body_until_close_does_not_persist() {
    with_response("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n", |response| {
        assert!(!response.keep_alive);
    });
}

#[test]
fn answers_to_head_and_304_have_no_body_but_may_tell_its_length() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(body_of("HEAD", head), BodyLength::Empty);
    assert_eq!(body_of("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), BodyLength::Empty);
    assert_eq!(body_of("HEAD", "HTTP/1.1 200 OK\r\n\r\n"), BodyLength::Empty);
    assert_eq!(body_of("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"), BodyLength::Empty);
    with_response_to("HEAD", head, |response| assert!(response.keep_alive));
}

#[test]
fn no_content_and_interim_responses_may_not_announce_a_body() {
    for status in [100, 101, 103, 204] {
        assert_eq!(body_of("GET", &format!("HTTP/1.1 {status} X\r\n\r\n")), BodyLength::Empty);
        assert_eq!(
            body_of("GET", &format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")),
            BodyLength::Empty
        );
        for field in ["content-length: 1", "transfer-encoding: chunked"] {
            let error = refusal(&format!("HTTP/1.1 {status} X\r\n{field}\r\n\r\n"));
            assert_eq!(error, F::BodyNotAllowed.into(), "{status} {field}");
        }
    }
}

#[test]
fn interim_response_is_followed_by_another_and_a_switch_is_not() {
    with_response("HTTP/1.1 103 Early Hints\r\n\r\n", |response| {
        assert!(response.is_interim() && response.keep_alive);
    });
    with_response("HTTP/1.1 101 Switching Protocols\r\n\r\n", |response| {
        assert!(!response.is_interim() && !response.keep_alive);
    });
}

#[test]
fn accepted_connect_is_a_tunnel_and_a_refused_one_is_a_response() {
    let accepted = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    with_response_to("CONNECT", accepted, |response| {
        assert_eq!((response.body, response.keep_alive), (BodyLength::Empty, false));
    });
    let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\n";
    with_response_to("CONNECT", refused, |response| {
        assert_eq!((response.body, response.keep_alive), (BodyLength::Length(5), true));
    });
}

#[test]
fn persistence_follows_version_and_connection() {
    let keep_alive = |line: &str| {
        with_response(&format!("{line}content-length: 0\r\n\r\n"), |response| response.keep_alive)
    };
    assert!(keep_alive("HTTP/1.1 200 OK\r\n"));
    assert!(!keep_alive("HTTP/1.1 200 OK\r\nconnection: close\r\n"));
    assert!(!keep_alive("HTTP/1.0 200 OK\r\n"));
    assert!(keep_alive("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"));
}
