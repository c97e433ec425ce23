//! The server behind both proxies: paths are named for what it does.

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::support::{Client, Endpoint, Message, answer};

pub(in crate::envoy) fn upstream() -> Endpoint {
    upstream_counting(Arc::default())
}

/// The same, which counts the requests that it leaves without an answer.
pub(in crate::envoy) fn upstream_counting(unanswered: Arc<AtomicUsize>) -> Endpoint {
    Endpoint::start(move |mut client| {
        while let Ok(Message { head, .. }) = Message::read_head(&mut client.0) {
            let path = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let is_first = head.contains("x-envoy-attempt-count: 1");
            if path == "plain-unanswered" || path == "again-unanswered" && !is_first {
                unanswered.fetch_add(1, Ordering::SeqCst);
                client.rest();
            } else if read_body(&mut client, &head).is_none() {
                return;
            }
            if serve(&mut client, path, &head).is_none() {
                return;
            }
        }
    })
}

/// `None` where the connection is to end.
fn serve(client: &mut Client, path: &str, head: &str) -> Option<()> {
    const BEGUN: &str = "HTTP/1.1 200 OK\r\n";
    match path {
        "close" => return None,
        "timeout" | "try" => thread::sleep(Duration::from_secs(1)),
        "nonsense" => _ = client.send("nonsense\r\n\r\n"),
        "plain-unanswered" => {}
        "busy" | "again-unanswered" => _ = client.send(answer(503, "busy")),
        "wrong" => _ = client.send(answer(500, "wrong")),
        "slow" => {
            thread::sleep(Duration::from_secs(1));
            echo(client, head);
        }
        "cut" => {
            client.send(format!("{BEGUN}content-length: 10\r\n\r\nhalf"));
            return None;
        }
        "cut-trailers" => {
            let chunks = "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n";
            client.send(format!("{BEGUN}{chunks}not a field\r\n\r\n"));
        }
        "stall" => {
            client.send(format!("{BEGUN}content-length: 10\r\n\r\nhalf"));
            client.rest();
        }
        "cut-chunks" => {
            client.send(format!("{BEGUN}transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"));
            return None;
        }
        "huge" => {
            let long = "a".repeat(82_000);
            client.send(format!("{BEGUN}content-length: 0\r\nx: {long}\r\n\r\n"));
        }
        "many" => {
            let many = "x: 1\r\n".repeat(120);
            client.send(format!("{BEGUN}content-length: 0\r\n{many}\r\n"));
        }
        "reset" => {
            let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&client.0, sockopt::Linger, &now).unwrap();
            return None;
        }
        _ => echo(client, head),
    }
    Some(())
}

/// Answers with the head of the request.
fn echo(client: &mut Client, head: &str) {
    let head = format!("{head}\r\n\r\n");
    let length = head.len();
    // Bytes after the answer to HEAD would be taken for the next answer.
    let body = if head.starts_with("HEAD") { "" } else { &head };
    client.send(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-a: up\r\nx-gone: 1\r\n\
         access-control-allow-origin: *\r\nserver: fake\r\n\r\n{body}"
    ));
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
