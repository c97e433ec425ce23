//! Endpoints of HTTP/2 that answer frame by frame: a library would not do what they do.

use crate::support::{
    Client, Endpoint,
    http2::{ACK, DATA, END_STREAM, Frame, HEADERS, PREFACE_LENGTH, RST_STREAM, SETTINGS, frame},
};

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

const END_HEADERS: u8 = 4;
/// Fields by their place in HPACK's static table, or as literals that nobody remembers.
const STATUS_200: u8 = 0x80 | 8;
const CONTENT_TYPE: u8 = 0x40 | 31;
const NEW_NAME: u8 = 0;

impl Behaviour {
    pub(super) fn start(self) -> Endpoint {
        Endpoint::start(move |mut client| {
            // The proxy may close at any time.
            if std::io::Read::read_exact(&mut client.0, &mut [0; PREFACE_LENGTH]).is_err() {
                return;
            }
            client.send(frame(SETTINGS, 0, 0, &[])).send(frame(SETTINGS, ACK, 0, &[]));
            while let Ok(Frame { kind, stream, .. }) = Frame::read(&mut client.0) {
                if kind == HEADERS && self.answer(&mut client, stream).is_none() {
                    return;
                }
            }
        })
    }

    /// `None` where the connection is to end.
    fn answer(self, client: &mut Client, stream: u32) -> Option<()> {
        match self {
            Self::Resets(reason) => _ = client.send(frame(RST_STREAM, 0, stream, &[0, 0, 0, reason])),
            Self::AnswersWithoutStatus => {
                // The field `accept-charset`, empty, from the static table.
                client.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x80 | 15]));
            }
            Self::TalksNonsense => _ = client.send([0xff; 64]),
            Self::Closes => return None,
            Self::AnswersGrpc => {
                let head = [&[STATUS_200, CONTENT_TYPE, 16][..], b"application/grpc"].concat();
                let status = [&[NEW_NAME, 11][..], b"grpc-status", &[1], b"0"].concat();
                client
                    .send(frame(HEADERS, END_HEADERS, stream, &head))
                    .send(frame(DATA, 0, stream, b"\0\0\0\0\x02hi"))
                    .send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &status));
            }
        }
        Some(())
    }
}
