//! Answers and opaque bytes that nobody takes, in a process that is short of memory.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dataplane::{AccessLog, LogFormat, Overload, Pressure, Settings};
use snapshot::{FilterChainMatch, Format};

use crate::{
    floods::{END_HEADERS, END_STREAM, GET, HEADERS, SETTINGS, frame, greeted, head},
    support::{PATIENCE, Proxy, Upstream, eventually, gateway_draft, tcp_chain},
};

const MIB: usize = 1024 * 1024;

/// A proxy in front of an endpoint whose answers never end, and which counts those that are let go.
struct Flooded {
    proxy: Proxy,
    overload: Overload,
    let_go: Arc<AtomicUsize>,
    upstream: Upstream,
    log: tempfile::NamedTempFile,
}

impl Flooded {
    fn start(opaque: bool) -> Self {
        let (overload, log) = (Overload::default(), tempfile::NamedTempFile::new().unwrap());
        let let_go = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&let_go);
        let upstream = Upstream::start(move |mut client| {
            _ = client.0.read(&mut [0; 4096]);
            client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2));
            while client.0.write_all(&[0; 65536]).is_ok() {}
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let format =
            LogFormat::text(&Format::parse("%PROTOCOL% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n").unwrap());
        let access_log = Some(AccessLog::open(log.path()).unwrap().with_format(format));
        let settings = Settings { overload: overload.clone(), access_log, ..Settings::default() };
        let proxy = Proxy::start(settings, |address| {
            let mut draft = gateway_draft(address, &[upstream.address]);
            if opaque {
                draft.listeners[0].filter_chains =
                    vec![snapshot::FilterChain { matches: FilterChainMatch::default(), ..tcp_chain(0) }];
            }
            draft
        });
        Self { proxy, overload, let_go, upstream, log }
    }

    /// A client that asks by HTTP/1, or for opaque bytes, and has not read anything yet.
    fn asked(&self) -> TcpStream {
        let mut client = self.proxy.connect();
        client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
        client.0
    }

    /// The same by HTTP/2, with room for so many bytes in its stream and its connection.
    fn asked_on_stream(&self, room: u32) -> TcpStream {
        let mut stream = greeted(&self.proxy);
        stream.write_all(&frame(SETTINGS, 0, 0, &[&[0, 4][..], &room.to_be_bytes()].concat())).unwrap();
        stream.write_all(&frame(8, 0, 0, &room.to_be_bytes())).unwrap();
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(GET))).unwrap();
        stream
    }

    /// From now on memory is short.
    fn press(&self, asked: usize) {
        eventually("all are answered", || self.upstream.connections() == asked);
        self.overload.set_excess(u64::MAX);
        self.overload.set_pressure(Pressure::Untaken);
    }

    fn let_go(&self) -> usize {
        self.let_go.load(Ordering::SeqCst)
    }

    fn lines(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

/// Reads about so many bytes in each second, a little at a time.
fn read_slowly(stream: &mut TcpStream, rate: usize, time: Duration) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = Instant::now();
    while start.elapsed() < time {
        stream.read_exact(&mut vec![0; rate / 10]).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn answers_that_nobody_takes_are_given_up_while_memory_is_short() {
    let flooded = Flooded::start(false);
    let mut reading = flooded.asked();
    let _silent = flooded.asked();
    let _unread = flooded.asked_on_stream(i32::MAX as u32 - 65_535);
    // It reads what comes, and gives no room for more.
    let mut choosy = flooded.asked_on_stream(1);
    thread::spawn(move || while choosy.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {});
    flooded.press(4);
    eventually("three are let go", || {
        reading.read_exact(&mut vec![0; MIB]).unwrap();
        flooded.let_go() == 3
    });
    // Of the one that did not read at all, the connection may have gone before the stream.
    eventually("each has a line", || flooded.lines().lines().count() >= 3);
    let lines = flooded.lines();
    assert!(lines.lines().all(|line| line.ends_with(" OM overload")), "{lines}");
    assert!(
        lines.contains("HTTP/1.1") && lines.lines().filter(|line| line.starts_with("HTTP/2")).count() >= 2
    );
    // Who reads is served, and so are new ones.
    reading.read_exact(&mut vec![0; MIB]).unwrap();
    flooded.asked().read_exact(&mut vec![0; MIB]).unwrap();
}

#[test]
fn opaque_bytes_that_nobody_takes_are_given_up_while_memory_is_short() {
    let flooded = Flooded::start(true);
    let (mut reading, _silent) = (flooded.asked(), flooded.asked());
    flooded.press(2);
    eventually("one is let go", || {
        reading.read_exact(&mut vec![0; MIB]).unwrap();
        flooded.let_go() == 1
    });
    eventually("it has a line", || flooded.lines() == "- OM -\n");
    reading.read_exact(&mut vec![0; MIB]).unwrap();
}

#[test]
fn who_reads_slowly_is_served_while_memory_is_short() {
    let [http, opaque] = [false, true].map(Flooded::start);
    let clients = [http.asked(), http.asked_on_stream(i32::MAX as u32 - 65_535), opaque.asked()];
    http.press(2);
    opaque.press(1);
    // More than twice as long as it takes to give somebody up.
    let time = Duration::from_secs(12);
    let reading = clients.map(|mut client| {
        thread::spawn(move || {
            read_slowly(&mut client, 50_000, time);
            // And there is more to come than the kernel ever held.
            client.read_exact(&mut vec![0; 32 * MIB]).unwrap();
            client
        })
    });
    let _served = reading.map(|client| client.join().expect("everything comes"));
    assert_eq!((http.let_go(), opaque.let_go()), (0, 0));
}
