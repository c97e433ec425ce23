//! The access log: one line per request or connection in Istio's default text format.
//!
//! Workers format into a buffer of their own and hand it over when it is large or half a second old; one thread
//! writes. A reader that does not keep up costs lines, which are counted, never a stalled worker.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    fmt,
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

/// Where access log lines go; clones write to the same place. Dropping the last one waits until what was handed over
/// is written, for a second at most.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Writer>);

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
        Ok(Self(Arc::new(Writer { queue: Some(queue), lost: AtomicU64::new(0), ended: Mutex::new(ended) })))
    }

    /// Lines lost because the output did not keep up.
    pub fn lost_lines(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    fn submit(&self, lines: Vec<u8>, count: u64) {
        if self.0.queue.as_ref().is_none_or(|queue| queue.try_send(lines).is_err()) {
            self.0.lost.fetch_add(count, Ordering::Relaxed);
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

    /// Adds a line.
    pub(crate) fn record(&self, entry: &Entry<'_>) {
        self.count.set(self.count.get() + 1);
        let full = {
            let mut lines = self.lines.borrow_mut();
            entry.write_line(&mut lines);
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
    // Ends of the fields within `text`, in the order of `Field`.
    ends: [u32; FIELDS],
}

/// Fields of a request that the log shows.
#[derive(Clone, Copy)]
pub(crate) enum Field {
    Method,
    Path,
    Protocol,
    ForwardedFor,
    UserAgent,
    RequestId,
    Authority,
}

const FIELDS: usize = 7;

impl RequestLine {
    /// Starts over, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends = [0; FIELDS];
    }

    /// Adds the next field; fields are added in the order of [`Field`], absent ones as empty.
    pub(crate) fn push(&mut self, field: Field, value: &[u8]) {
        self.text.extend_from_slice(value);
        self.ends[field as usize] = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
    }

    fn get(&self, field: Field) -> &[u8] {
        let index = field as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        self.text.get(start..self.ends[index] as usize).unwrap_or_default()
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
    pub(crate) route: Option<&'e str>,
}

impl Entry<'_> {
    /// Istio's default `accessLogFormat`.
    fn write_line(&self, out: &mut Vec<u8>) {
        let absent = RequestLine::default();
        let request = self.request.unwrap_or(&absent);
        let field = |field| Quoted(request.get(field));
        // Writing into memory cannot fail.
        _ = writeln!(
            out,
            "[{}] \"{} {} {}\" {} {} {} - \"-\" {} {} {} {} \"{}\" \"{}\" \"{}\" \"{}\" \"{}\" {} {} {} {} {} {}",
            humantime::format_rfc3339_millis(self.start),
            field(Field::Method),
            field(Field::Path),
            field(Field::Protocol),
            self.status,
            or_dash(self.flags),
            or_dash(self.details),
            self.received,
            self.sent,
            self.duration.as_millis(),
            Optional(self.service_time),
            field(Field::ForwardedFor),
            field(Field::UserAgent),
            field(Field::RequestId),
            field(Field::Authority),
            Optional(self.upstream),
            self.cluster.unwrap_or("-"),
            Optional(self.upstream_local),
            self.downstream_local,
            self.downstream_remote,
            self.server_name.unwrap_or("-"),
            self.route.unwrap_or("-"),
        );
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

struct Optional<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A peer's bytes as they may stand between quotes: nothing in them can end the field or the line.
struct Quoted<'b>(&'b [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        let harmless = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\');
        match std::str::from_utf8(self.0) {
            Ok(text) if self.0.iter().all(harmless) => f.write_str(text),
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RequestLine {
        let mut request = RequestLine::default();
        request.push(Field::Method, b"GET");
        request.push(Field::Path, b"/a\"b\x01");
        request.push(Field::Protocol, b"HTTP/1.1");
        request.push(Field::ForwardedFor, b"");
        request.push(Field::UserAgent, b"curl/8");
        request.push(Field::RequestId, b"id");
        request.push(Field::Authority, b"a.com");
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
            received: 0,
            sent: 12,
            service_time: Some(1),
            upstream: Some("10.0.0.9:8080".parse().unwrap()),
            cluster: Some("outbound|80||a.default.svc.cluster.local"),
            upstream_local: None,
            downstream_local: "10.96.0.1:80".parse().unwrap(),
            downstream_remote: "10.0.0.1:40000".parse().unwrap(),
            server_name: None,
            route: Some("default"),
        }
    }

    fn line(entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        entry.write_line(&mut out);
        String::from_utf8(out).unwrap()
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
