//! Clients that ask for much and read nothing, in a container that has little memory.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use super::gateway::{Gateway, app};
use crate::support::{
    Client, Endpoint,
    http2::{ACK, DATA, Frame, HEADERS, OPENING, PING, PREFACE_LENGTH, RST_STREAM, SETTINGS, frame, head},
};

const WINDOW_UPDATE: u8 = 8;
const INITIAL_WINDOW: u16 = 4;
const CLIENTS: usize = 8;
const REQUESTS: u32 = 1000;
const MEMORY: usize = 256;
/// What is under way when memory gets short may still fill its buffers, and how much that is depends on how soon the
/// proxy is scheduled: some 230 MiB where it is at once, 270 on a busy machine. It is 776 to 1027 MiB where nothing is
/// given up, or where the requests of a connection to an endpoint do not share what is sent ahead.
const MOST: usize = MEMORY * 3 / 2;

/// What an endpoint may still send, of one request or of all.
type Window = i64;

/// An HTTP/2 endpoint whose answers never end: it sends whatever it may.
struct Endless {
    stream: TcpStream,
    initial: Window,
    connection: Window,
    streams: HashMap<u32, Window>,
}

impl Endless {
    fn serve(mut stream: TcpStream) {
        let mut preface = [0; PREFACE_LENGTH];
        if stream.read_exact(&mut preface).is_err() || stream.write_all(&frame(SETTINGS, 0, 0, &[])).is_err()
        {
            return;
        }
        let mut serving = Self { stream, initial: 65_535, connection: 65_535, streams: HashMap::new() };
        while let Ok(frame) = Frame::read(&mut serving.stream) {
            serving.take(&frame);
        }
    }

    fn take(&mut self, Frame { kind, flags, stream, payload }: &Frame) {
        match *kind {
            SETTINGS if flags & ACK == 0 => {
                self.take_settings(payload);
                self.say(&frame(SETTINGS, ACK, 0, &[]));
            }
            PING if flags & ACK == 0 => self.say(&frame(PING, ACK, 0, payload)),
            HEADERS => {
                self.streams.insert(*stream, self.initial);
                self.say(&head(*stream, 0, &[(":status", "200")]));
            }
            RST_STREAM => _ = self.streams.remove(stream),
            WINDOW_UPDATE => {
                let more = Window::from(u32::from_be_bytes(payload[..4].try_into().unwrap()));
                match self.streams.get_mut(stream) {
                    Some(window) => *window += more,
                    None if *stream == 0 => self.connection += more,
                    None => {}
                }
            }
            _ => return,
        }
        self.send_what_may_be_sent();
    }

    fn take_settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            if u16::from_be_bytes([setting[0], setting[1]]) == INITIAL_WINDOW {
                let initial = Window::from(u32::from_be_bytes(setting[2..].try_into().unwrap()));
                self.streams.values_mut().for_each(|window| *window += initial - self.initial);
                self.initial = initial;
            }
        }
    }

    fn send_what_may_be_sent(&mut self) {
        let mut frames = Vec::new();
        for (stream, window) in &mut self.streams {
            while *window > 0 && self.connection > 0 {
                let bytes = (*window).min(self.connection).min(16_384);
                frames.extend(frame(DATA, 0, *stream, &vec![0; bytes as usize]));
                *window -= bytes;
                self.connection -= bytes;
            }
        }
        self.say(&frames);
    }

    fn say(&mut self, frames: &[u8]) {
        // When the proxy has gone, reading says so.
        _ = self.stream.write_all(frames);
    }
}

/// A connection with many requests and room for everything, which is never read from.
fn asking(port: u16) -> Client {
    let mut client = Client::local(port);
    let room = 0x7fff_0000_u32.to_be_bytes();
    client.send(OPENING);
    client.send(frame(SETTINGS, 0, 0, &[&INITIAL_WINDOW.to_be_bytes()[..], &room].concat()));
    client.send(frame(WINDOW_UPDATE, 0, 0, &room));
    let asked = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app.example.com")];
    for number in 0..REQUESTS {
        client.send(head(2 * number + 1, 1, &asked));
    }
    client
}

#[test]
fn answers_that_nobody_reads_do_not_fill_the_memory() {
    let endpoint = Endpoint::start(|client| Endless::serve(client.0));
    let upgrade = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let gateway = Gateway::start_within(&app(&[endpoint.address], upgrade), &format!("{MEMORY}Mi"));
    let unread: Vec<_> = (0..CLIENTS).map(|_| asking(gateway.http)).collect();
    gateway.log_line(&["memory gets short: what peers take nothing of is given up"]);
    gateway.access_line(&[" OM overload "]);
    gateway.until("requests are served again", || {
        let mut client = gateway.client();
        client.ask("/", "");
        let mut start = [0; 12];
        client.0.read_exact(&mut start).is_ok_and(|()| &start == b"HTTP/1.1 200")
    });
    // What is left of the clients goes on trying.
    thread::sleep(Duration::from_secs(1));
    let most = gateway.most_memory() >> 10;
    assert!(most < MOST, "{most} MiB");
    drop(unread);
}
