//! Clients and servers that speak HTTP/1 bytes.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A message as it came, without the framing of its body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The first line and the fields.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The first line of a request without its version.
    pub(crate) fn asks_for(&self) -> &str {
        self.head.split(" HTTP/").next().unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// Reads one, unless the connection ends instead.
    pub(crate) fn read(stream: &mut impl Read) -> io::Result<Self> {
        let head = String::from_utf8(until(stream, b"\r\n\r\n")?).unwrap();
        let mut message = Self { head: head.trim_end().to_owned(), body: String::new() };
        if message.field("transfer-encoding").is_some() {
            message.body = chunks(stream)?;
        } else if let Some(length) = message.field("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body)?;
            message.body = String::from_utf8(body).unwrap();
        }
        Ok(message)
    }
}

fn chunks(stream: &mut impl Read) -> io::Result<String> {
    let mut body = String::new();
    loop {
        let line = String::from_utf8(until(stream, b"\r\n")?).unwrap();
        let mut chunk = vec![0; usize::from_str_radix(line.trim_end(), 16).unwrap() + 2];
        stream.read_exact(&mut chunk)?;
        chunk.truncate(chunk.len() - 2);
        if chunk.is_empty() {
            return Ok(body);
        }
        body += std::str::from_utf8(&chunk).unwrap();
    }
}

fn until(stream: &mut impl Read, end: &[u8]) -> io::Result<Vec<u8>> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(end) {
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends a request whose lines end with `\n`, on a connection of its own.
pub(crate) fn send(port: u16, request: &str) -> Message {
    let mut stream = connect(port);
    let (head, body) = request.split_once("\n\n").unwrap();
    stream.write_all(format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n")).as_bytes()).unwrap();
    // Answers to HEAD have no body, whatever they say of it.
    if request.starts_with("HEAD ") {
        let head = String::from_utf8(until(&mut stream, b"\r\n\r\n").unwrap()).unwrap();
        return Message { head: head.trim_end().to_owned(), body: String::new() };
    }
    Message::read(&mut stream).unwrap_or_else(|error| panic!("no answer to {request}: {error}"))
}

/// A server in this process that keeps what it is asked.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Message>>>,
}

impl Upstream {
    /// Answers with what `answer` says, which is given each request and its number from 1; silence closes.
    pub(crate) fn start(answer: impl Fn(&Message, usize) -> String + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        let port = serve(move |mut stream| {
            while let Ok(request) = Message::read(&mut stream) {
                let number = {
                    let mut asked = kept.lock().unwrap();
                    asked.push(request.clone());
                    asked.len()
                };
                let answer = answer(&request, number);
                if answer.is_empty() || stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { port, asked }
    }

    /// Answers every request with 200 and `name`.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::start(move |_, _| ok(name))
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Message> {
        self.asked.lock().unwrap().clone()
    }

    /// The request that came last.
    pub(crate) fn last(&self) -> Message {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub(crate) fn await_asked(&self, count: usize) -> Vec<Message> {
        let start = Instant::now();
        loop {
            let asked = self.asked();
            if asked.len() >= count {
                return asked;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "asked only {asked:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Runs `behave` for every connection to the port returned.
pub(crate) fn serve(behave: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behave = Arc::clone(&behave);
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            thread::spawn(move || behave(stream));
        }
    });
    port
}

pub(crate) fn ok(body: &str) -> String {
    answer(200, body)
}

pub(crate) fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
