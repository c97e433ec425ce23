//! Clients inside a pod: HTTP/1.1 requests and plain TCP connections, with what each end saw.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::{Message, Unannounced, read_message};
use crate::pod::Pod;
use crate::program::program;

/// An answer, and the address the request was sent from.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The client's own address, as the client's kernel knows it.
    pub local: SocketAddr,
    message: Message,
}

impl Reply {
    /// The first value of a response header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.message.header(name)
    }

    /// The body as text.
    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    /// Which application answered; an error when none of ours did.
    ///
    /// # Errors
    /// When the body is not one of [`Pod::http_app`].
    pub fn app(&self) -> Result<String> {
        self.fact("app")
    }

    /// The address from which the application was called.
    ///
    /// # Errors
    /// When the body is not one of [`Pod::http_app`].
    pub fn peer(&self) -> Result<SocketAddr> {
        let peer = self.fact("peer")?;
        peer.parse().with_context(|| format!("peer `{peer}`"))
    }

    /// The path with query as the application received it.
    ///
    /// # Errors
    /// When the body is not one of [`Pod::http_app`].
    pub fn path(&self) -> Result<String> {
        self.fact("path")
    }

    /// Succeeds when the application named `app` answered 200.
    ///
    /// # Errors
    /// What was answered instead.
    pub fn expect_app(&self, app: &str) -> Result<()> {
        ensure!(self.status == 200, "status {} instead of 200, body {:?}", self.status, self.body());
        let answered = self.app()?;
        ensure!(answered == app, "{answered} answered instead of {app}");
        Ok(())
    }

    /// Succeeds when the application was called from `ip`.
    ///
    /// # Errors
    /// The address it was called from instead.
    pub fn expect_peer(&self, ip: IpAddr) -> Result<()> {
        let peer = self.peer()?;
        ensure!(peer.ip() == ip, "the application was called from {peer} instead of {ip}");
        Ok(())
    }

    /// Succeeds when client and application spoke over one and the same connection: no proxy stood between.
    ///
    /// # Errors
    /// Both addresses, when they differ.
    pub fn expect_direct(&self) -> Result<()> {
        let peer = self.peer()?;
        ensure!(
            peer == self.local,
            "called from {peer}, but the client is {}: something stands between",
            self.local
        );
        Ok(())
    }

    fn fact(&self, name: &str) -> Result<String> {
        let body = self.body();
        let found = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found
            .map(str::to_string)
            .with_context(|| format!("no `{name}` in the answer {} {body:?}", self.status))
    }
}

impl Pod {
    /// Sends `GET path` with `Host: host` to `to` on a connection of its own.
    ///
    /// # Errors
    /// When the connection fails, or no whole answer comes within 5 s.
    pub fn get(&self, to: SocketAddr, host: &str, path: &str) -> Result<Reply> {
        self.request(to, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"))
    }

    /// Sends `text` as it is and reads one answer.
    ///
    /// # Errors
    /// As [`Pod::get`].
    pub fn request(&self, to: SocketAddr, text: &str) -> Result<Reply> {
        let stream = self.connect(to)?;
        exchange(&stream, text).with_context(|| format!("request to {to}"))
    }

    /// Opens a TCP connection from the pod, with 5 s for each read and write.
    ///
    /// # Errors
    /// When it is refused, unreachable, or not made within 2 s.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        let connected = self.namespace().within(|| TcpStream::connect_timeout(&to, CONNECT_LIMIT));
        let stream = connected.with_context(|| format!("connect from {} to {to}", self.name()))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(stream)
    }

    /// Connects, sends nothing, and returns the first bytes the server sends of its own accord.
    ///
    /// # Errors
    /// When none come within `limit`.
    pub fn listen_to(&self, to: SocketAddr, limit: Duration) -> Result<String> {
        let mut stream = self.connect(to)?;
        stream.set_read_timeout(Some(limit))?;
        let mut bytes = [0; 256];
        let length =
            stream.read(&mut bytes).with_context(|| format!("{to} says nothing within {limit:?}"))?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Sends a request from a process of its own that runs as `uid` and `gid`. Returns the address it was sent from
    /// and the address the application was called from: equal when nothing stands between.
    ///
    /// # Errors
    /// When no [`Pod::http_app`] answers.
    pub fn dial_as(&self, uid: u32, gid: u32, to: SocketAddr) -> Result<(SocketAddr, SocketAddr)> {
        let dial = program("dial")?;
        let printed = self.run_as(uid, gid, &[&dial.to_string_lossy(), &to.to_string()])?;
        let address = |name: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|text| text.parse().ok()).with_context(|| format!("no `{name}` in {printed:?}"))
        };
        // The answer names both of its ends too; the client's own line comes first.
        Ok((address("local")?, address("peer")?))
    }

    /// Succeeds when a connection to `to` is refused, or closed after a request without an answer or with a 503.
    ///
    /// # Errors
    /// The answer that came, or that nothing happened within 5 s.
    pub fn expect_refused(&self, to: SocketAddr) -> Result<()> {
        let Ok(mut stream) = self.connect(to) else { return Ok(()) };
        let mut answer = Vec::new();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: loop\r\nconnection: close\r\n\r\n");
        match stream.read_to_end(&mut answer) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(e).with_context(|| format!("{to} does not close"))
            }
            _ => {
                let refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 ");
                ensure!(refused, "{to} answered {:?}", String::from_utf8_lossy(&answer));
                Ok(())
            }
        }
    }
}

/// Sends a request over an open connection and reads one answer.
///
/// # Errors
/// When the connection breaks, or no whole answer comes in time.
pub fn exchange(mut stream: &TcpStream, text: &str) -> Result<Reply> {
    stream.write_all(text.as_bytes())?;
    let unannounced = if text.starts_with("HEAD ") { Unannounced::Empty } else { Unannounced::UntilClose };
    let message =
        read_message(&mut BufReader::new(stream), unannounced)?.context("closed without an answer")?;
    let status = message.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("status line {:?}", message.first_line))?;
    Ok(Reply { status, local: stream.local_addr()?, message })
}

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
