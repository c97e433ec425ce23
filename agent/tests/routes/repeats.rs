//! What is on its way while a request is made again.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use super::world::{World, rules};
use crate::support::{Client, Endpoint, Message, PATIENCE, answer, service};

fn world(upstream: &Endpoint, retries: &str) -> World {
    World::gateway(&[
        service("app", upstream),
        rules(&[&format!("{{route: [{{destination: {{host: app}}}}], retries: {{{retries}}}}}")]),
    ])
}

/// What the client gets, and what the log says, when the first try fails with the whole body read, and the second has an
/// `answer` before it has read any of it, and reads no more.
fn answered_early(answer: &'static str) -> (Message, String) {
    let connections = AtomicUsize::new(0);
    let endpoint = Endpoint::narrow(move |mut client| {
        if connections.fetch_add(1, SeqCst) == 0 {
            _ = client.message();
            client.send("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n");
        } else {
            _ = Message::read_head(&mut client.0);
            client.send(answer);
            // It stays, so that nothing but the answer tells.
            std::thread::sleep(PATIENCE * 2);
        }
    });
    let world = world(&endpoint, "attempts: 1, retryOn: 5xx");
    let body = "x".repeat(1_000_000);
    let mut client = Client::local(world.port);
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: app\r\nx-case: early\r\ncontent-length: 1000000\r\n\r\n{body}"
    ));
    (client.answer(), world.logged("early"))
}

#[test]
fn an_endpoint_may_answer_before_it_has_read_a_body_that_is_sent_again() {
    let (answer, logged) = answered_early("HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(answer.status(), 413);
    assert!(logged.starts_with("413 - via_upstream "), "{logged}");
    assert!(logged.ends_with(" 2"), "{logged}");
}

#[test]
fn who_leaves_in_the_pause_before_another_try_has_made_one() {
    let endpoint = Endpoint::answering(|_, _| answer(503, "no"));
    // The pause is a random part of that.
    let world = world(&endpoint, "attempts: 1, retryOn: 5xx, backoff: 3600s");
    let mut client = Client::local(world.port);
    client.send("GET / HTTP/1.1\r\nhost: app\r\nx-case: left\r\n\r\n");
    world.await_clusters("rq_error::1\n");
    let left = Instant::now();
    drop(client);
    let logged = world.logged("left");
    assert!(left.elapsed() < Duration::from_secs(30), "{logged}");
    assert!(logged.starts_with("0 DC downstream_remote_disconnect "), "{logged}");
    assert!(logged.ends_with(" 1"), "{logged}");
}
