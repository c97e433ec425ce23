//! The two sides: each reads a stream of bytes to its end and says what it saw.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use http1::{
    BodyDecoder, BodyLength, HeaderSlots, Limits, Request, Response, Target, parse_request, parse_response,
};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// One message as either side saw it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    /// Method and target, or status.
    pub(crate) start: String,
    /// Names in lower case, sorted; lines of one name in their order. Without framing, which each side keeps apart.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// How reading ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// After a message, because nothing more was to be read.
    Clean,
    /// Within a message.
    Incomplete,
    /// With an error; hyper's are not told apart.
    Refused(String),
}

/// All that was seen on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: End,
}

/// Reads requests as a connection of the proxy would.
pub(crate) fn codec_requests(mut stream: &[u8]) -> Exchange {
    let mut messages = Vec::new();
    loop {
        let mut slots = HeaderSlots::new();
        let request = match parse_request(stream, &Limits::default(), &mut slots) {
            Ok(Some(request)) => request,
            Ok(None) => return Exchange { messages, end: end_within(stream) },
            Err(error) => return Exchange { messages, end: End::Refused(format!("{error:?}")) },
        };
        match codec_body(request.body, &stream[request.head_len..]) {
            Ok((body, rest)) => {
                let keep_alive = request.keep_alive;
                messages.push(request_message(&request, body));
                stream = rest;
                if !keep_alive {
                    return Exchange { messages, end: End::Clean };
                }
            }
            Err(end) => return Exchange { messages, end },
        }
    }
}

/// Reads the response to a request with `method`, after any interim ones.
pub(crate) fn codec_response(method: &str, mut stream: &[u8]) -> Exchange {
    loop {
        let mut slots = HeaderSlots::new();
        let response = match parse_response(stream, &Limits::default(), method, &mut slots) {
            Ok(Some(response)) => response,
            Ok(None) => return Exchange { messages: Vec::new(), end: End::Incomplete },
            Err(error) => return Exchange { messages: Vec::new(), end: End::Refused(format!("{error:?}")) },
        };
        stream = &stream[response.head_len..];
        if !response.is_interim() {
            return match codec_body(response.body, stream) {
                Ok((body, _)) => {
                    Exchange { messages: vec![response_message(&response, body)], end: End::Clean }
                }
                Err(end) => Exchange { messages: Vec::new(), end },
            };
        }
    }
}

fn codec_body(length: BodyLength, mut stream: &[u8]) -> Result<(Vec<u8>, &[u8]), End> {
    let mut decoder = BodyDecoder::new(length);
    let mut body = Vec::new();
    while !decoder.is_done() && !stream.is_empty() {
        let decoded = decoder.decode(stream).map_err(|error| End::Refused(format!("{error:?}")))?;
        body.extend_from_slice(&stream[decoded.data]);
        stream = &stream[decoded.consumed..];
    }
    decoder.end_of_input().map_err(|_| End::Incomplete)?;
    Ok((body, stream))
}

fn request_message(request: &Request<'_, '_>, body: Vec<u8>) -> Message {
    let target = match request.target {
        // hyper does not tell `http://a` from `http://a/`, which for OPTIONS is the difference between server and path.
        Target::Absolute { scheme, authority, path } => {
            let path = if path == "*" { "/" } else { path };
            format!("{}://{authority}{path}", scheme.to_lowercase())
        }
        Target::Authority(authority) => authority.to_owned(),
        Target::Origin(_) | Target::Asterisk => request.target.path_and_query().to_owned(),
    };
    Message { start: format!("{} {target}", request.method), fields: codec_fields(request.headers), body }
}

fn response_message(response: &Response<'_, '_>, body: Vec<u8>) -> Message {
    Message { start: response.status.to_string(), fields: codec_fields(response.headers), body }
}

fn codec_fields(headers: &[http1::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    sorted(headers.iter().map(|header| (header.name.to_lowercase(), header.value.to_vec())))
}

fn hyper_fields(headers: &hyper::HeaderMap) -> Vec<(String, Vec<u8>)> {
    sorted(headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())))
}

fn sorted(fields: impl Iterator<Item = (String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut fields: Vec<_> =
        fields.filter(|(name, _)| name != "content-length" && name != "transfer-encoding").collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

/// Whether anything but the empty lines a client may leave behind is unread.
fn end_within(stream: &[u8]) -> End {
    if stream.iter().all(|byte| b"\r\n".contains(byte)) { End::Clean } else { End::Incomplete }
}

/// Serves `stream` with hyper; every request is answered with 404, so none is taken for an upgrade.
pub(crate) fn hyper_requests(stream: &[u8]) -> Exchange {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let record = Arc::clone(&record);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            let start = format!("{} {}", head.method, head.uri);
            record.lock().expect("nobody panicked").push(Message {
                start,
                fields: hyper_fields(&head.headers),
                body,
            });
            let mut response = hyper::Response::new(Empty::<Bytes>::new());
            *response.status_mut() = hyper::StatusCode::NOT_FOUND;
            Ok::<_, hyper::Error>(response)
        }
    });
    let outcome = run(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        far.write_all(stream).await.expect("the stream fits the pipe");
        far.shutdown().await.expect("the pipe is open");
        let served = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(near), service)
            .await;
        drop(far);
        served
    });
    let messages = seen.lock().expect("nobody panicked").clone();
    Exchange { messages, end: hyper_end(outcome) }
}

/// Asks for `/` with hyper's client and `method`, and answers with `stream`.
pub(crate) fn hyper_response(method: &str, stream: &[u8]) -> Exchange {
    let request = hyper::Request::builder()
        .method(method)
        .uri(if method == "CONNECT" { "a:443" } else { "/" })
        .header("host", "a")
        .body(Empty::<Bytes>::new())
        .expect("the request is valid");
    let outcome = run(async {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        let answer = answer_once(far, stream);
        let ask = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes().to_vec();
            Ok(Message { start: head.status.as_u16().to_string(), fields: hyper_fields(&head.headers), body })
        };
        let (message, _, ()) = tokio::join!(ask, connection, answer);
        message
    });
    match outcome {
        Ok(message) => Exchange { messages: vec![message], end: End::Clean },
        Err(error) => Exchange { messages: Vec::new(), end: hyper_end(Err(error)) },
    }
}

async fn answer_once(mut far: DuplexStream, stream: &[u8]) {
    let mut request = [0; 1024];
    let _ = far.read(&mut request).await;
    let _ = far.write_all(stream).await;
    let _ = far.shutdown().await;
}

/// hyper wraps what was wrong with a body, and calls a body that ends early an unexpected end of file.
fn hyper_end(outcome: Result<(), hyper::Error>) -> End {
    match outcome {
        Ok(()) => End::Clean,
        Err(error) if error.is_incomplete_message() || ends_early(&error) => End::Incomplete,
        Err(error) => End::Refused(format!("{error:?}")),
    }
}

fn ends_early(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
        || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
        || error.source().is_some_and(ends_early)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built").block_on(work)
}
