//! Clients that leave while nothing is read from them: there is no room for what they sent first.

use std::{
    io::{ErrorKind, Write as _},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::gateway::{Gateway, app};
use crate::support::{Client, Endpoint, PATIENCE};

/// More than the proxy holds of a body, less than the kernel does.
const BODY: usize = 48 * 1024;

const LEFT: &str = " 0 DC downstream_remote_disconnect ";

fn post(client: &mut Client, path: &str, length: usize) {
    client.send(format!("POST {path} HTTP/1.1\r\nhost: app.example.com\r\ncontent-length: {length}\r\n\r\n"));
}

#[test]
fn a_client_is_missed_whose_request_waits_for_a_connection() {
    let server = Endpoint::held("app", 200);
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {tcp: {maxConnections: 1}}}"));
    let mut first = gateway.client();
    first.ask("/", "");
    server.await_asked(1);
    let mut waiting = gateway.client();
    post(&mut waiting, "/waiting", BODY);
    waiting.send(vec![b'a'; BODY]);
    drop(waiting);
    gateway.access_line(&["POST /waiting", LEFT]);
    server.release(1);
    assert_eq!((first.answer().status(), server.requests()), (200, 1));
}

#[test]
fn a_client_is_missed_whose_endpoint_takes_no_more_of_the_body() {
    let (reads, may_read) = mpsc::channel();
    let (ends, has_ended) = mpsc::channel();
    let (may_read, ends) = (Mutex::new(may_read), Mutex::new(ends));
    let server = Endpoint::start(move |mut client| {
        // Whoever leaves with something unread has the kernel say so at once.
        client.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        may_read.lock().unwrap().recv().unwrap();
        client.rest();
        ends.lock().unwrap().send(()).unwrap();
    });
    let gateway = Gateway::start(&app(&[server.address], "{}"));
    let mut client = gateway.client();
    post(&mut client, "/blocked", usize::MAX >> 8);
    fill(&mut client);
    drop(client);
    gateway.access_line(&["POST /blocked", LEFT]);
    reads.send(()).unwrap();
    has_ended.recv_timeout(PATIENCE).expect("the endpoint is told");
}

/// Sends until nothing moves for a while, so that all the room on the way is used.
fn fill(client: &mut Client) {
    client.0.set_nonblocking(true).unwrap();
    let mut moved = Instant::now();
    while moved.elapsed() < Duration::from_millis(700) {
        match client.0.write(&[b'a'; BODY]) {
            Ok(sent) => {
                assert!(sent > 0);
                moved = Instant::now();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
