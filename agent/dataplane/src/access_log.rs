//! The access log: one line per request or connection, in Istio's default format or one of the user's.
//!
//! Workers format into a buffer of their own and hand it over when it is large or half a second old; one thread
//! writes. A reader that does not keep up costs lines, which are counted, never a stalled worker.

mod format;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod recorded;

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

use snapshot::{Address, UnixPath};

use crate::{bounds, tls::Session, upstream::OwnEnd};
pub use format::{JsonFormat, LogFormat};
pub(crate) use format::{Slot, SlotNames, Wanted};
pub(crate) use recorded::Recorded;

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
        let (queue, chunks) = sync_channel(bounds::LOG_PIECES);
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

    /// The fields to remember for a line.
    pub(crate) fn slots(&self) -> &SlotNames {
        self.log.format.slots()
    }

    /// Adds a line.
    pub(crate) fn record(&self, entry: &Entry<'_>) {
        self.count.set(self.count.get() + 1);
        let full = {
            let mut lines = self.lines.borrow_mut();
            self.log.format.write_line(entry, &mut lines);
            lines.len() >= bounds::LOG_PIECE
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

/// Everything a line tells. Absent values print as `-`.
pub(crate) struct Entry<'e> {
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    /// `None` for opaque connections.
    pub(crate) request: Option<&'e Recorded>,
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
    /// From the request's head to its end, and to the head of the answer.
    pub(crate) request_ended: Option<Duration>,
    pub(crate) answer_began: Option<Duration>,
    pub(crate) grpc_status: Option<u8>,
    /// How often an endpoint was asked.
    pub(crate) attempts: u32,
    /// What the endpoint was spoken to in.
    pub(crate) upstream_protocol: Option<&'static str>,
    pub(crate) upstream: Option<&'e Address>,
    pub(crate) cluster: Option<&'e str>,
    /// Our end of the connection to it.
    pub(crate) own_end: Option<&'e OwnEnd>,
    /// Number of the client's connection.
    pub(crate) connection: u64,
    /// Name of its filter chain, where lines show that.
    pub(crate) chain: Option<&'e str>,
    pub(crate) downstream_local: SocketAddr,
    /// The client, and who has connected: another one where there are trusted proxies between.
    pub(crate) downstream_remote: SocketAddr,
    pub(crate) downstream_direct_remote: SocketAddr,
    /// The unix socket that the client came by: it stands for addresses that there are none of.
    pub(crate) downstream_unix: Option<&'e UnixPath>,
    /// The name that a client hello asked for.
    pub(crate) server_name: Option<&'e str>,
    /// What the client's handshake came to.
    pub(crate) session: Option<&'e Session>,
    pub(crate) route: Option<&'e str>,
}

#[cfg(test)]
mod tests;
