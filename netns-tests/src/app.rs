//! Real applications inside a pod. Each serves until dropped.

use std::fmt::Write as _;
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http::{Message, Unannounced, read_message};
use crate::pod::Pod;

/// An application listening in a pod; stops accepting on drop.
#[derive(Debug)]
#[must_use = "an application stops when it is dropped"]
pub struct App {
    listener: TcpListener,
}

impl Pod {
    /// Serves HTTP/1.1 on every address of the pod. The answer is a small body of lines `name: value`: `app`,
    /// `method`, `path`, `peer` (who called), `local` (whom it called), and one `header <name>` per request field.
    /// `/status/NNN` is answered with that status, `/delay/N` after N seconds (at most 10).
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn http_app(&self, name: &str, port: u16) -> Result<App> {
        self.http_app_at(name, any(port))
    }

    /// As [`Pod::http_app`], on one address only.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub fn http_app_at(&self, name: &str, address: SocketAddr) -> Result<App> {
        let name: Arc<str> = name.into();
        self.serve(address, move |stream| serve_http(&name, &stream))
    }

    /// Sends back every byte it receives. Silent until the first one; its answer begins with a line that holds the
    /// caller's address.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn echo_app(&self, port: u16) -> Result<App> {
        self.serve(any(port), |stream| serve_echo(&stream))
    }

    /// Speaks first, as mail and database servers do: sends `banner`, then waits for the caller to close.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn banner_app(&self, port: u16, banner: &'static str) -> Result<App> {
        self.serve(any(port), move |mut stream| {
            stream.write_all(banner.as_bytes())?;
            stream.read_to_end(&mut Vec::new())?;
            Ok(())
        })
    }

    fn serve(
        &self,
        address: SocketAddr,
        talk: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
    ) -> Result<App> {
        let listener = self.namespace().within(|| TcpListener::bind(address));
        let listener = listener.with_context(|| format!("cannot listen on {address} in {}", self.name()))?;
        let accepting = listener.try_clone()?;
        let talk = Arc::new(talk);
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let talk = Arc::clone(&talk);
                // A caller that breaks off is that caller's matter; scenarios judge by what callers see.
                thread::spawn(move || stream.set_read_timeout(Some(IDLE_LIMIT)).map(|()| talk(stream)));
            }
        });
        Ok(App { listener })
    }
}

/// Every address of the families that there are.
fn any(port: u16) -> SocketAddr {
    match crate::network::has_ipv6() {
        true => (Ipv6Addr::UNSPECIFIED, port).into(),
        false => ([0, 0, 0, 0], port).into(),
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Wakes the accepting thread, which then ends.
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

fn serve_http(app: &str, stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_message(&mut reader, Unannounced::Empty)? {
        let close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        (&*stream).write_all(answer(app, &request, stream)?.as_bytes())?;
        if close {
            break;
        }
    }
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

fn answer(app: &str, request: &Message, stream: &TcpStream) -> Result<String> {
    let mut words = request.first_line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (peer, local) = (plain(stream.peer_addr()?), plain(stream.local_addr()?));
    let mut body = format!("app: {app}\nmethod: {method}\npath: {path}\npeer: {peer}\nlocal: {local}\n");
    for (name, value) in &request.headers {
        writeln!(body, "header {}: {value}", name.to_ascii_lowercase())?;
    }
    if let Some(seconds) = path.strip_prefix("/delay/").and_then(|n| n.parse::<u64>().ok()) {
        thread::sleep(Duration::from_secs(seconds.min(10)));
    }
    let status = path.strip_prefix("/status/").and_then(|n| n.parse::<u16>().ok()).unwrap_or(200);
    let length = body.len();
    Ok(format!("HTTP/1.1 {status} \r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"))
}

fn serve_echo(mut stream: &TcpStream) -> Result<()> {
    let mut bytes = [0; 4096];
    let mut greeting = format!("{}\n", plain(stream.peer_addr()?));
    loop {
        let length = stream.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(std::mem::take(&mut greeting).as_bytes())?;
        stream.write_all(&bytes[..length])?;
    }
}

/// `::ffff:10.77.0.2` as `10.77.0.2`: the listeners serve both families on one socket.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), address.port()),
        IpAddr::V4(_) => address,
    }
}

const IDLE_LIMIT: Duration = Duration::from_secs(30);
