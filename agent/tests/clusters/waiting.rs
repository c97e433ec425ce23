//! Requests that wait because there are as many connections as `maxConnections` says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
    mpsc,
};

use super::gateway::{Gateway, app};
use crate::support::{
    Client, Endpoint, PATIENCE,
    http2::{ACK, DATA, END_STREAM, Frame, GOAWAY, PREFACE_LENGTH, SETTINGS, frame, head},
};

/// A client whose request waits, `under_way` being all there are then.
fn waiting(gateway: &Gateway, path: &str, under_way: usize) -> Client {
    let mut client = gateway.client();
    client.ask(path, "");
    gateway.await_clusters(&format!("rq_active::{under_way}\n"));
    client
}

#[test]
fn who_comes_first_is_served_first() {
    let server = Endpoint::held("app", 200);
    let gateway = Gateway::start(&app(&[server.address], "{connectionPool: {tcp: {maxConnections: 1}}}"));
    let mut first = gateway.client();
    // What comes last is there as soon as its connection's first request is answered.
    first.ask("/0", "").ask("/last", "");
    server.await_asked(1);
    let mut others: Vec<Client> = (1..6).map(|n| waiting(&gateway, &format!("/{n}"), n + 1)).collect();
    server.release(usize::MAX);
    assert_eq!((first.answer().status(), first.answer().status()), (200, 200));
    assert!(others.iter_mut().all(|client| client.answer().status() == 200));
    let asked: Vec<_> = server.asked().iter().map(|asked| asked.asks_for().to_owned()).collect();
    assert_eq!(asked, ["GET /0", "GET /1", "GET /2", "GET /3", "GET /4", "GET /5", "GET /last"]);
    assert_eq!(server.connections(), 1);
}

#[test]
fn who_waits_goes_on_when_the_limit_is_raised_or_taken_away() {
    for more in ["{connectionPool: {tcp: {maxConnections: 7}}}", "{loadBalancer: {simple: RANDOM}}"] {
        let server = Endpoint::held("app", 200);
        let limited = app(&[server.address], "{connectionPool: {tcp: {maxConnections: 1}}}");
        let gateway = Gateway::start(&limited);
        let mut first = gateway.client();
        first.ask("/", "");
        server.await_asked(1);
        let mut second = waiting(&gateway, "/second", 2);
        gateway.change(&app(&[server.address], more));
        server.await_asked(2);
        assert!(!first.is_answered(), "the connection there is is not free");
        server.release(usize::MAX);
        assert_eq!((first.answer().status(), second.answer().status()), (200, 200), "{more}");
    }
}

/// An HTTP/2 endpoint that says GOAWAY when it has two requests, of which it looks at the first only. That is answered
/// when it is [told](Leaving::answer), those on other connections are at once.
struct Leaving {
    endpoint: Endpoint,
    answer: mpsc::Sender<()>,
    /// Bytes of bodies.
    data: Arc<AtomicUsize>,
}

impl Leaving {
    fn start() -> Self {
        let (answer, answers) = mpsc::channel();
        let (answers, data) = (Mutex::new(Some(answers)), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&data);
        let endpoint = Endpoint::start(move |mut client| {
            let leaving = answers.lock().unwrap().take();
            client.exactly(PREFACE_LENGTH);
            client.send(frame(SETTINGS, 0, 0, &[]));
            while let Ok(read) = Frame::read(&mut client.0) {
                if read.kind == SETTINGS && read.flags & ACK == 0 {
                    client.send(frame(SETTINGS, ACK, 0, &[]));
                }
                if read.kind == DATA {
                    counted.fetch_add(read.payload.len(), SeqCst);
                }
                match &leaving {
                    Some(answers) if read.stream == 3 && read.ends() => {
                        client.send(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
                        answers.recv_timeout(PATIENCE).unwrap();
                        client.send(head(1, END_STREAM, &[(":status", "204")]));
                    }
                    None if read.ends() => {
                        client.send(head(read.stream, END_STREAM, &[(":status", "204")]));
                    }
                    _ => {}
                }
            }
        });
        Self { endpoint, answer, data }
    }
}

/// A request with a body that the endpoint has not looked at is made again, and one that comes meanwhile waits, too.
#[test]
fn a_connection_on_its_way_out_is_waited_for() {
    for limit in [", tcp: {maxConnections: 1}", ""] {
        let server = Leaving::start();
        let pool = format!("{{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE}}{limit}}}}}");
        let gateway = Gateway::start(&app(&[server.endpoint.address], &pool));
        let mut first = waiting(&gateway, "/", 1);
        let mut refused = gateway.client();
        refused.send("PUT /again HTTP/1.1\r\nhost: app.example.com\r\ncontent-length: 4\r\n\r\nbody");
        if limit.is_empty() {
            assert_eq!(refused.answer().status(), 204);
        }
        let mut third = gateway.client();
        third.ask("/", "");
        if limit.is_empty() {
            assert_eq!(third.answer().status(), 204);
        } else {
            gateway.await_clusters("rq_active::3\n");
        }
        server.answer.send(()).unwrap();
        assert_eq!(first.answer().status(), 204, "{limit}");
        if !limit.is_empty() {
            assert_eq!((refused.answer().status(), third.answer().status()), (204, 204));
        }
        assert_eq!((server.endpoint.connections(), server.data.load(SeqCst)), (2, 8), "{limit}");
    }
}
