//! Clients and endpoints that speak raw bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A connection, of a client or of an endpoint.
pub(crate) struct Client(pub(crate) TcpStream);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
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

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask(path, "").answer()
    }

    /// Reads one answer, with a body of known length.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head().expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
        answer.body = String::from_utf8(self.exactly(length)).unwrap();
        answer
    }

    /// A head; `None` when the connection has ended.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => return None,
            }
        }
        Some(String::from_utf8(bytes).unwrap())
    }

    pub(crate) fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).unwrap();
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

    /// Whether the other side ends the connection within some time, having said nothing more.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).unwrap();
        match self.0.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// An endpoint that runs `behave` on every connection.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), behave)
    }

    pub(crate) fn at(address: SocketAddr, behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, behave) = (Arc::new(AtomicUsize::new(0)), Arc::new(behave));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let behave = Arc::clone(&behave);
                thread::spawn(move || behave(Client::of(stream)));
            }
        });
        Self { address, connections, requests: Arc::default() }
    }

    /// Answers requests with a status, after a while, and its name as the body.
    pub(crate) fn answering(name: &'static str, status: u16, after: Duration) -> Self {
        Self::answering_at(([127, 0, 0, 1], 0).into(), name, (status, after))
    }

    pub(crate) fn answering_at(
        address: SocketAddr,
        name: &'static str,
        (status, after): (u16, Duration),
    ) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let server = Self::at(address, move |mut client| {
            while client.head().is_some() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::sleep(after);
                let length = name.len();
                client.send(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{name}"));
            }
        });
        Self { requests, ..server }
    }

    /// Answers requests at once, with its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::answering(name, 200, Duration::ZERO)
    }

    /// Answers each line with its name and a line.
    pub(crate) fn opaque(name: &'static str) -> Self {
        Self::start(move |mut client| {
            while !client.line().is_empty() {
                client.send(format!("{name}\n"));
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An address of loopback that is the `n`th of many, as that of a pod, and a port.
pub(crate) fn pod(n: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([127, 0, 1, n]), port)
}
