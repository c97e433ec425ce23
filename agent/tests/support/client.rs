//! One side of a connection that speaks raw bytes.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{Message, PATIENCE};

/// A connection, of a client or of an endpoint.
pub(crate) struct Client(pub(crate) TcpStream);

/// Sends a request whose lines end with `\n`, on a connection of its own.
pub(crate) fn send(port: u16, request: &str) -> Message {
    let mut client = Client::local(port);
    let (head, body) = request.split_once("\n\n").unwrap();
    client.send(format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n")));
    let answer =
        if request.starts_with("HEAD ") { Message::read_head(&mut client.0) } else { client.message() };
    answer.unwrap_or_else(|error| panic!("no answer to {request}: {error}"))
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// To a port of this machine.
    pub(crate) fn local(port: u16) -> Self {
        Self::connect(([127, 0, 0, 1], port).into())
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        // Whoever has gone may have said why before.
        _ = self.0.write_all(bytes.as_ref());
        self
    }

    /// Asks for a path with further fields, each with its end of line.
    pub(crate) fn ask(&mut self, path: &str, fields: &str) -> &mut Self {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: app.example.com\r\n{fields}\r\n"))
    }

    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.ask(path, "").answer()
    }

    /// The ports of its own end and of the other, as `from-to`: no other connection has both.
    pub(crate) fn ports(&self) -> String {
        format!("{}-{}", self.0.local_addr().unwrap().port(), self.0.peer_addr().unwrap().port())
    }

    /// Reads one answer.
    pub(crate) fn answer(&mut self) -> Message {
        self.message().expect("an answer")
    }

    /// Whether something has come that is not read yet, the end of the connection too.
    pub(crate) fn is_answered(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).unwrap();
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Reads one message, unless the connection ends instead.
    pub(crate) fn message(&mut self) -> io::Result<Message> {
        Message::read(&mut self.0)
    }

    pub(crate) fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All that comes until the connection ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        _ = self.0.read_to_end(&mut bytes);
        bytes
    }

    /// A line without its end; empty when the connection has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while let Ok(1) = self.0.read(&mut byte) {
            match byte[0] {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Whether the other side ends the connection, having said nothing more. Endpoints here wait longer for a word: it is
    /// not they who end it.
    pub(crate) fn ends(&mut self) -> bool {
        self.ends_within(PATIENCE / 2)
    }

    /// The same, within some time.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).unwrap();
        match self.0.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}
