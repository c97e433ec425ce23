//! Clients and endpoints that speak HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

use crate::support::{Client, Upstream};

/// What an endpoint does with each request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// Takes the request back with this reason.
    Resets(u8),
    /// Answers with a head that has no status.
    AnswersWithoutStatus,
    /// Sends what is no frame.
    TalksNonsense,
    /// Closes the connection.
    Closes,
    /// Answers a gRPC call with a message and its status.
    AnswersGrpc,
}

pub(super) const BEHAVIOURS: [Behaviour; 6] = [
    Behaviour::Resets(2),
    Behaviour::Resets(7),
    Behaviour::AnswersWithoutStatus,
    Behaviour::TalksNonsense,
    Behaviour::Closes,
    Behaviour::AnswersGrpc,
];

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_OF_HEAD: u8 = 4;
const END_OF_STREAM_AND_HEAD: u8 = 5;
/// Fields by their place in HPACK's static table, or as literals that nobody remembers.
const STATUS_200: u8 = 0x80 | 8;
const CONTENT_TYPE: u8 = 0x40 | 31;
const NEW_NAME: u8 = 0;

impl Behaviour {
    /// An endpoint that does it, frame by frame: a library would not.
    pub(super) fn start(self) -> Upstream {
        Upstream::start(move |mut client| _ = self.serve(&mut client))
    }

    fn serve(self, client: &mut Client) -> Option<()> {
        const PREFACE: usize = 24;
        exactly(client, PREFACE)?;
        client.send(frame(SETTINGS, 0, 0, &[])).send(frame(SETTINGS, 1, 0, &[]));
        loop {
            let head = exactly(client, 9)?;
            exactly(client, u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize)?;
            if head[3] != HEADERS {
                continue;
            }
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match self {
                Self::Resets(reason) => client.send(frame(RST_STREAM, 0, stream, &[0, 0, 0, reason])),
                // The field `accept-charset`, empty, from the static table.
                Self::AnswersWithoutStatus => {
                    client.send(frame(HEADERS, END_OF_STREAM_AND_HEAD, stream, &[0x80 | 15]))
                }
                Self::TalksNonsense => client.send([0xff; 64]),
                Self::Closes => return None,
                Self::AnswersGrpc => {
                    let head = [&[STATUS_200, CONTENT_TYPE, 16][..], b"application/grpc"].concat();
                    let status = [&[NEW_NAME, 11][..], b"grpc-status", &[1], b"0"].concat();
                    client
                        .send(frame(HEADERS, END_OF_HEAD, stream, &head))
                        .send(frame(DATA, 0, stream, b"\0\0\0\0\x02hi"))
                        .send(frame(HEADERS, END_OF_STREAM_AND_HEAD, stream, &status))
                }
            };
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

fn exactly(client: &mut Client, n: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; n];
    std::io::Read::read_exact(&mut client.0, &mut bytes).ok().map(|()| bytes)
}

/// A request written as one of HTTP/1, asked by a client of HTTP/2: its answer written as one of HTTP/1.
pub(super) fn ask(client: std::net::TcpStream, case: &str) -> String {
    client.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = TcpStream::from_std(client).unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driven = tokio::spawn(connection);
        let asking = tokio::time::timeout(Duration::from_secs(10), answer(sender, case));
        let answer = asking.await.unwrap().unwrap_or_else(|error| format!("{error}"));
        driven.abort();
        answer
    })
}

async fn answer(sender: h2::client::SendRequest<Bytes>, case: &str) -> Result<String, h2::Error> {
    let (head, body) = case.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ');
    let [method, path] = [(); 2].map(|()| words.next().unwrap());
    let mut request = Request::builder().method(method);
    let mut host = "";
    for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
        match name {
            "host" => host = value,
            _ => request = request.header(name, value),
        }
    }
    let request = request.uri(format!("http://{host}{path}")).body(()).unwrap();
    let (response, mut to) = sender.ready().await?.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        to.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
    }
    let (head, mut from) = response.await?.into_parts();
    let mut shown = format!("HTTP/1.1 {}\r\n", head.status.as_u16());
    for (name, value) in &head.headers {
        shown += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let mut body = Vec::new();
    while let Some(data) = from.data().await {
        body.extend_from_slice(&data?);
    }
    if let Some(trailers) = from.trailers().await? {
        body.extend_from_slice(format!("{trailers:?}").as_bytes());
    }
    let body = String::from_utf8(body).unwrap_or_else(|bytes| bytes.as_bytes().escape_ascii().to_string());
    Ok(shown + "\r\n" + &body)
}
