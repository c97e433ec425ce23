//! HTTP/2 clients that mean harm, in raw frames: each is sent away, and others are served.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use dataplane::Settings;

use crate::support::{Client, PATIENCE, Proxy, Upstream, gateway_draft};

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET http://test/`, or `POST`, of the static table and two literals.
pub(crate) fn head(method: u8) -> Vec<u8> {
    let mut block = vec![method, 0x86, 0x84, 0x41, 4];
    block.extend_from_slice(b"test");
    block
}

pub(crate) const GET: u8 = 0x82;
const POST: u8 = 0x83;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A client that has said hello.
pub(crate) fn greeted(proxy: &Proxy) -> TcpStream {
    let mut stream = proxy.connect().0;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    stream
}

/// Reads frames until the connection ends; the error code of GOAWAY, if one came.
fn goodbye(mut stream: TcpStream) -> Option<u32> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    // A connection that is reset has ended, too.
    _ = stream.read_to_end(&mut bytes);
    said_goodbye(&bytes)
}

/// The error code of the first GOAWAY among frames.
pub(crate) fn said_goodbye(mut rest: &[u8]) -> Option<u32> {
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = after.get(..length)?;
        if head[3] == GOAWAY {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = &after[length..];
    }
    None
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// Sends frames until the peer has had enough; panics when it never has.
fn flood(stream: &mut TcpStream, frame: &[u8]) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let batch = frame.repeat(10_000);
    let had_enough = (0..2_000).any(|_| stream.write_all(&batch).is_err());
    assert!(had_enough, "nobody minds");
}

fn served(proxy: &Proxy) {
    assert_eq!(proxy.connect().get("/").status(), "200");
}

/// Reads frames up to the head of an answer; its block.
pub(crate) fn head_of_answer(stream: &mut TcpStream) -> Vec<u8> {
    loop {
        if let (HEADERS, payload) = read_frame(stream) {
            return payload;
        }
    }
}

/// Kind and payload of the next frame.
pub(crate) fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).unwrap();
    (head[3], payload)
}

#[test]
fn the_path_for_all_of_a_server_is_for_nobody() {
    // `:status: 400` and `:status: 404` of the static table.
    for (method, status) in [(&b"\x82"[..], 0x8c), (b"\x02\x07OPTIONS", 0x8d)] {
        let upstream = Upstream::echoing_heads();
        let proxy = Proxy::gateway(&[upstream.address]);
        let mut stream = greeted(&proxy);
        let asking = [method, b"\x86\x04\x01*\x41\x04test"].concat();
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &asking)).unwrap();
        let answer = head_of_answer(&mut stream);
        assert!(answer.contains(&status), "{}", answer.escape_ascii());
        assert_eq!(upstream.connections(), 0);
    }
}

#[test]
fn continuations_without_end() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut stream = greeted(&proxy);
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &head(GET))).unwrap();
    let reading = stream.try_clone().unwrap();
    let farewell = std::thread::spawn(move || goodbye(reading));
    flood(&mut stream, &frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"));
    assert_eq!(farewell.join().unwrap(), Some(ENHANCE_YOUR_CALM));
    assert_eq!(upstream.connections(), 0);
    served(&proxy);
}

/// A proxy that waits half a second for heads.
fn impatient(upstream: &Upstream) -> Proxy {
    let settings = Settings { head_timeout: Duration::from_millis(500), ..Settings::default() };
    Proxy::start(settings, |address| gateway_draft(address, &[upstream.address]))
}

#[test]
fn heads_that_are_begun_and_never_ended() {
    let upstream = Upstream::echoing_heads();
    let proxy = impatient(&upstream);
    let whole = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(GET));
    for (what, sent) in [
        ("a block", frame(HEADERS, END_STREAM, 1, &head(GET))),
        ("a frame", whole[..whole.len() - 1].to_vec()),
        ("the head of a frame", vec![0]),
        ("a block after a request", [whole, frame(HEADERS, END_STREAM, 3, &head(GET))].concat()),
    ] {
        let mut stream = greeted(&proxy);
        stream.write_all(&sent).unwrap();
        assert_eq!(goodbye(stream), Some(ENHANCE_YOUR_CALM), "{what}");
    }
    served(&proxy);
}

#[test]
fn a_head_in_drops_is_not_waited_for_longer() {
    let upstream = Upstream::echoing_heads();
    let proxy = impatient(&upstream);
    let mut stream = greeted(&proxy);
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &head(GET))).unwrap();
    let reading = stream.try_clone().unwrap();
    let farewell = std::thread::spawn(move || goodbye(reading));
    while !farewell.is_finished() {
        // Refused once the connection is closed.
        _ = stream.write_all(&frame(CONTINUATION, 0, 1, &[]));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(farewell.join().unwrap(), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn a_preface_and_nothing() {
    let upstream = Upstream::echoing_heads();
    let proxy = impatient(&upstream);
    for greeting in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"PRI * HT"] {
        let mut client = proxy.connect();
        let start = std::time::Instant::now();
        client.send(greeting).rest_or_reset();
        assert!(start.elapsed().as_millis() >= 400, "{:?}", start.elapsed());
    }
}

#[test]
fn who_has_asked_for_nothing_is_waited_for() {
    let upstream = Upstream::echoing_heads();
    let proxy = impatient(&upstream);
    let mut stream = greeted(&proxy);
    std::thread::sleep(Duration::from_secs(2));
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(GET))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains("GET / HTTP/1.1") {
        let n = stream.read(&mut piece).unwrap();
        assert_ne!(n, 0, "closed instead of answered");
        seen.extend_from_slice(&piece[..n]);
    }
}

#[test]
fn a_head_that_unpacks_to_far_more_than_it_is() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut stream = greeted(&proxy);
    let mut block = head(GET);
    // One field of 4,000 bytes into the table, then named by one byte each: 12 MB unpacked.
    block.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    block.extend([b'x'; 4000]);
    block.extend([0xbe; 3000]);
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)).unwrap();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, &head(GET))).unwrap();
    let mut answers = Client(stream);
    // Refused with 431, which is a literal in the answer's block; the second is served or the connection closed.
    let mut seen = Vec::new();
    answers.0.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = answers.0.read(&mut piece) {
        seen.extend_from_slice(&piece[..n]);
    }
    assert!(!seen.windows(8).any(|window| window == b"xxxxxxxx"), "the field was sent on and echoed");
    served(&proxy);
}

#[test]
fn empty_frames_without_end() {
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            if head.starts_with("GET") {
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut stream = greeted(&proxy);
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head(POST))).unwrap();
    let reading = stream.try_clone().unwrap();
    let farewell = std::thread::spawn(move || goodbye(reading));
    flood(&mut stream, &frame(DATA, 0, 1, b""));
    assert_eq!(farewell.join().unwrap(), Some(ENHANCE_YOUR_CALM));
    served(&proxy);
}

/// Answers that are never read fill the socket, and then nothing more is read: memory stays what it was.
#[test]
fn pings_and_settings_whose_answers_are_never_read() {
    let upstream = Upstream::echoing_heads();
    let proxy = Proxy::gateway(&[upstream.address]);
    for (what, asking) in [("pings", frame(PING, 0, 0, &[0; 8])), ("settings", frame(SETTINGS, 0, 0, &[]))] {
        let mut stream = greeted(&proxy);
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let batch = asking.repeat(20_000);
        let blocked = (0..1000).any(|_| stream.write_all(&batch).is_err());
        assert!(blocked, "180 MB and more of {what} were taken without an answer being read");
    }
    served(&proxy);
}

/// A head in as many frames as it takes.
fn in_frames(stream: u32, block: &[u8]) -> Vec<u8> {
    let (first, rest) = block.split_at(16_384);
    let mut frames = frame(HEADERS, END_STREAM, stream, first);
    let mut rest = rest.chunks(16_384).peekable();
    while let Some(piece) = rest.next() {
        let flags = if rest.peek().is_none() { END_HEADERS } else { 0 };
        frames.extend(frame(CONTINUATION, flags, stream, piece));
    }
    frames
}

/// Reads frames up to the answer to a request; how many others were refused.
fn refused_until_answered(stream: &mut TcpStream, request: u32) -> usize {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut refused = 0;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            RST_STREAM => {
                assert_eq!(payload, REFUSED_STREAM.to_be_bytes());
                refused += 1;
            }
            HEADERS if head[5..] == request.to_be_bytes() => return refused,
            GOAWAY => panic!("sent away: {payload:?}"),
            _ => {}
        }
    }
}

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

#[test]
fn large_heads_of_more_requests_than_a_connection_has_room_for() {
    const LARGE: usize = 50_000;
    const SENT: u32 = 120;
    let upstream = Upstream::start(|mut client| {
        while let Some(head) = client.request_head() {
            if head.len() < LARGE {
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    });
    let proxy = Proxy::gateway(&[upstream.address]);
    let mut stream = greeted(&proxy);
    let mut block = head(GET);
    // A literal field of 50,000 bytes, which no table remembers.
    block.extend([0, 1, b'a', 0x7f, 0xd1, 0x85, 0x03]);
    block.extend([b'x'; LARGE]);
    // A small request behind the large ones tells when these have been looked at.
    let mut refused_of = |ids: std::ops::Range<u32>| {
        let mut sent: Vec<u8> = ids.clone().flat_map(|id| in_frames(2 * id + 1, &block)).collect();
        sent.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * ids.end + 1, &head(GET)));
        stream.write_all(&sent).unwrap();
        let refused = refused_until_answered(&mut stream, 2 * ids.end + 1);
        let taken_back = ids.flat_map(|id| frame(RST_STREAM, 0, 2 * id + 1, &CANCEL.to_be_bytes()));
        stream.write_all(&taken_back.collect::<Vec<u8>>()).unwrap();
        refused
    };
    let served = SENT as usize - refused_of(0..SENT);
    let room = 4 * 1024 * 1024 / LARGE;
    // On a busy machine some may have found no endpoint meanwhile.
    assert!((room - 2..SENT as usize).contains(&served), "{served} of {SENT} were served");
    // Who has let go of its requests has room again.
    assert_eq!(refused_of(SENT + 1..SENT + 20), 0);
}
