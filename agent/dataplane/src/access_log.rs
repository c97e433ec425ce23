//! The access log: one line per request or connection, in Istio's default format or one of the user's.
//!
//! Workers format into a buffer of their own and hand it over when it is large or half a second old; one thread
//! writes. A reader that does not keep up costs lines, which are counted, never a stalled worker.

mod format;

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fs::OpenOptions,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    time::{Duration, SystemTime},
};

use crate::tls::Session;
pub use format::LogFormat;
pub(crate) use format::Wanted;

/// Where access log lines go; clones write to the same place. Dropping the last one waits until what was handed over
/// is written, for a second at most.
#[derive(Clone, Debug)]
pub struct AccessLog {
    writer: Arc<Writer>,
    format: Arc<LogFormat>,
}

#[derive(Debug)]
struct Writer {
    /// `None` only while dropping.
    queue: Option<SyncSender<Vec<u8>>>,
    lost: AtomicU64,
    /// Ends when the writer has written everything.
    ended: Mutex<Receiver<Infallible>>,
}

/// Buffers waiting for the writer; at [`FLUSH_SIZE`] each this bounds the backlog to about 4 MiB.
const QUEUE: usize = 64;
/// Size from which a worker hands its buffer over without waiting for the tick.
const FLUSH_SIZE: usize = 60 * 1024;

impl AccessLog {
    /// Opens `path` for appending and starts the writer; `/dev/stdout` and `/dev/stderr` mean the process's own.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn open(path: &Path) -> io::Result<Self> {
        match path.to_str() {
            Some("/dev/stdout") => Self::start(io::stdout()),
            Some("/dev/stderr") => Self::start(io::stderr()),
            _ => Self::start(OpenOptions::new().append(true).create(true).open(path)?),
        }
    }

    /// Starts a writer thread for `output`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, chunks) = sync_channel(QUEUE);
        let (ending, ended) = channel::<Infallible>();
        let write = move || {
            write_all(chunks, output);
            drop(ending);
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        let writer = Writer { queue: Some(queue), lost: AtomicU64::new(0), ended: Mutex::new(ended) };
        Ok(Self { writer: Arc::new(writer), format: Arc::default() })
    }

    /// The same log with lines of another look; without this they look as Istio's do by default.
    #[must_use]
    pub fn with_format(self, format: LogFormat) -> Self {
        Self { format: Arc::new(format), ..self }
    }

    /// Lines lost because the output did not keep up.
    pub fn lost_lines(&self) -> u64 {
        self.writer.lost.load(Ordering::Relaxed)
    }

    fn submit(&self, lines: Vec<u8>, count: u64) {
        if self.writer.queue.as_ref().is_none_or(|queue| queue.try_send(lines).is_err()) {
            self.writer.lost.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        // A stuck output must not keep the process from ending.
        _ = self.ended.get_mut().map(|ended| ended.recv_timeout(LAST_WRITE));
    }
}

const LAST_WRITE: Duration = Duration::from_secs(1);

fn write_all(chunks: Receiver<Vec<u8>>, mut output: impl Write) {
    for chunk in chunks {
        // A full disk or a closed pipe must not end the proxy; later lines may get through again.
        _ = output.write_all(&chunk).and_then(|()| output.flush());
    }
}

/// One worker's lines on their way to the writer.
pub(crate) struct LogBuffer {
    log: AccessLog,
    lines: RefCell<Vec<u8>>,
    count: Cell<u64>,
}

impl LogBuffer {
    pub(crate) fn new(log: AccessLog) -> Self {
        Self { log, lines: RefCell::default(), count: Cell::new(0) }
    }

    /// The request fields to remember for a line, by slot.
    pub(crate) fn fields(&self) -> &[Wanted] {
        self.log.format.fields()
    }

    /// Adds a line.
    pub(crate) fn record(&self, entry: &Entry<'_>) {
        self.count.set(self.count.get() + 1);
        let full = {
            let mut lines = self.lines.borrow_mut();
            self.log.format.write_line(entry, &mut lines);
            lines.len() >= FLUSH_SIZE
        };
        if full {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if !lines.is_empty() {
            let room = Vec::with_capacity(lines.len());
            self.log.submit(std::mem::replace(&mut *lines, room), self.count.replace(0));
        }
    }
}

/// What the client asked, copied out of its connection's buffer before that is used for something else.
#[derive(Debug, Default)]
pub(crate) struct RequestLine {
    text: Vec<u8>,
    /// Ends of the fields within `text`, by slot.
    ends: Vec<u32>,
    protocol: &'static str,
}

impl RequestLine {
    /// Starts over, keeping the memory. `protocol` is `HTTP/1.1` and the like.
    pub(crate) fn start(&mut self, protocol: &'static str) {
        self.text.clear();
        self.ends.clear();
        self.protocol = protocol;
    }

    /// Adds the field of the next slot; an absent one is empty.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn get(&self, slot: usize) -> &[u8] {
        let start = slot.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        let end = self.ends.get(slot).copied().unwrap_or(start);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    fn protocol(&self) -> &str {
        self.protocol
    }
}

/// Everything a line tells. Absent values print as `-`.
pub(crate) struct Entry<'e> {
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    /// `None` for opaque connections.
    pub(crate) request: Option<&'e RequestLine>,
    /// Zero when no answer was sent.
    pub(crate) status: u16,
    pub(crate) flags: &'e str,
    pub(crate) details: &'e str,
    /// What ended the connection, if that was a TLS handshake.
    pub(crate) termination: &'e str,
    /// What the network or TLS said of the connection to the endpoint, without blanks.
    pub(crate) transport_failure: Option<&'e str>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) service_time: Option<u64>,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) cluster: Option<&'e str>,
    pub(crate) upstream_local: Option<SocketAddr>,
    pub(crate) downstream_local: SocketAddr,
    pub(crate) downstream_remote: SocketAddr,
    /// The name that a client hello asked for.
    pub(crate) server_name: Option<&'e str>,
    /// What the client's handshake came to.
    pub(crate) session: Option<&'e Session>,
    pub(crate) route: Option<&'e str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RequestLine {
        let mut request = RequestLine::default();
        request.start("HTTP/1.1");
        let fields: [&[u8]; 6] = [b"GET", b"/a\"b\x01", b"", b"curl/8", b"id", b"a.com"];
        fields.iter().for_each(|value| request.push(|out| out.extend_from_slice(value)));
        request
    }

    fn entry(request: Option<&RequestLine>) -> Entry<'_> {
        Entry {
            start: SystemTime::UNIX_EPOCH,
            duration: Duration::from_micros(2500),
            request,
            status: if request.is_some() { 200 } else { 0 },
            flags: "",
            details: "via_upstream",
            termination: "",
            transport_failure: None,
            received: 0,
            sent: 12,
            service_time: Some(1),
            upstream: Some("10.0.0.9:8080".parse().unwrap()),
            cluster: Some("outbound|80||a.default.svc.cluster.local"),
            upstream_local: None,
            downstream_local: "10.96.0.1:80".parse().unwrap(),
            downstream_remote: "10.0.0.1:40000".parse().unwrap(),
            server_name: None,
            session: None,
            route: Some("default"),
        }
    }

    fn line(entry: &Entry<'_>) -> String {
        written(entry, &LogFormat::default())
    }

    fn written(entry: &Entry<'_>, format: &LogFormat) -> String {
        let mut out = Vec::new();
        format.write_line(entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_users_format_is_followed_and_its_line_ended() {
        let format = snapshot::Format::parse(
            "%REQ(:METHOD)% [%REQ(X-B?:METHOD):2%] %RESPONSE_CODE% %TRAILER(A)% 100%%",
        );
        let format = LogFormat::text(&format.unwrap());
        let mut request = RequestLine::default();
        request.start("HTTP/2");
        ["GET", "POST"].iter().for_each(|value| request.push(|out| out.extend_from_slice(value.as_bytes())));
        assert_eq!(format.fields().len(), 2);
        assert_eq!(written(&entry(Some(&request)), &format), "GET [PO] 200 - 100%\n");
        assert_eq!(written(&entry(None), &format), "- [-] 0 - 100%\n");
    }

    #[test]
    fn json_has_numbers_texts_and_nulls() {
        let format =
            [("b", "%RESPONSE_CODE%"), ("a", "%REQ(:PATH)%"), ("c", "x %PROTOCOL%"), ("d", "%ROUTE_NAME%")];
        let format = format.map(|(key, value)| (key.to_owned(), snapshot::Format::parse(value).unwrap()));
        let format = LogFormat::json(&format);
        let mut request = RequestLine::default();
        request.start("HTTP/1.1");
        request.push(|out| out.extend_from_slice(b"/a\"\n\xff"));
        let known = Entry { route: None, ..entry(Some(&request)) };
        assert_eq!(
            written(&known, &format),
            "{\"a\":\"/a\\\"\\n\u{fffd}\",\"b\":200,\"c\":\"x HTTP/1.1\",\"d\":null}\n"
        );
        let json = written(&entry(None), &LogFormat::default_json());
        assert!(json.starts_with("{\"authority\":null,\"bytes_received\":0,"), "{json}");
    }

    #[test]
    fn a_request_prints_in_istios_default_format_and_cannot_break_out_of_its_quotes() {
        assert_eq!(
            line(&entry(Some(&request()))),
            "[1970-01-01T00:00:00.000Z] \"GET /a\\\"b\\x01 HTTP/1.1\" 200 - via_upstream - \"-\" 0 12 2 1 \"-\" \
             \"curl/8\" \"id\" \"a.com\" \"10.0.0.9:8080\" outbound|80||a.default.svc.cluster.local - \
             10.96.0.1:80 10.0.0.1:40000 - default\n"
        );
    }

    #[test]
    fn a_connection_prints_dashes_for_the_request() {
        assert!(line(&entry(None)).contains("\"- - -\" 0 - via_upstream"));
    }

    #[test]
    fn lines_arrive_at_the_output_and_a_stuck_output_loses_lines_instead_of_blocking() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_keep, blocked) = channel();
        let log = AccessLog::start(Stuck(blocked)).unwrap();
        let buffer = LogBuffer::new(log.clone());
        for _ in 0..QUEUE + 10 {
            buffer.record(&entry(None));
            buffer.flush();
        }
        assert!((8..=10).contains(&log.lost_lines()), "{}", log.lost_lines());
    }
}
