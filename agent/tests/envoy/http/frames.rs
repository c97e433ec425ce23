//! A client of HTTP/2 that writes its frames itself: libraries do not send what is wrong.

use super::comparable;
use crate::support::{
    Client,
    http2::{ACK, DATA, END_STREAM, Frame, HEADERS, OPENING, RST_STREAM, SETTINGS, frame, head},
};

const GOAWAY: u8 = 7;

/// Sends fields, a body and trailers, each behind an empty line and the last with the stream's end; tells the frames that
/// come until the stream, or the connection, has ended, and what they hold where that is text.
pub(super) fn ask(client: &mut Client, case: &str) -> String {
    let parts: Vec<_> = case.split("\n\n").filter(|part| !part.is_empty()).collect();
    client.send(OPENING);
    for (at, part) in parts.iter().enumerate() {
        let end = if at + 1 == parts.len() { END_STREAM } else { 0 };
        client.send(match at {
            1 => frame(DATA, end, 1, part.as_bytes()),
            _ => head(1, end, &fields(part)),
        });
    }
    let mut told = Vec::new();
    while let Ok(Frame { kind, flags, stream, payload }) = Frame::read(&mut client.0) {
        let reason = || u32::from_be_bytes(payload[payload.len() - 4..].try_into().unwrap());
        match kind {
            SETTINGS if flags & ACK == 0 => _ = client.send(frame(SETTINGS, ACK, 0, &[])),
            HEADERS => told.push("HEADERS".to_owned()),
            DATA if payload.is_empty() => {}
            DATA => told.push(format!("DATA {}", comparable(&String::from_utf8_lossy(&payload)))),
            RST_STREAM => told.push(format!("RST_STREAM {}", reason())),
            // What follows the reason is for people.
            GOAWAY => told.push(format!("GOAWAY {}", u32::from_be_bytes(payload[4..8].try_into().unwrap()))),
            _ => {}
        }
        if stream == 1 && (kind == RST_STREAM || [DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0) {
            return told.join("\n");
        }
    }
    told.push("ended".to_owned());
    told.join("\n")
}

/// Whether a request was refused for its form. Envoy then ends the connection; the program ends the stream, where its
/// codec lets it (RFC 9113 §8.1.1), and has lines for what gets past the codec only.
pub(super) fn is_refused(frames: &str, line: &str) -> bool {
    let by_codec = frames.lines().all(|frame| ["RST_STREAM 1", "GOAWAY 1", "ended"].contains(&frame));
    line.contains(" 400 DPE ") || by_codec && !line.contains("http2.remote_reset")
}

/// Each line is a name and a value.
fn fields(text: &str) -> Vec<(&str, &str)> {
    text.split('\n').map(|line| line.split_once(": ").unwrap()).collect()
}
