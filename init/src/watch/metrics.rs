//! The figures of `watch`, for Prometheus.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// What `watch` has seen and done.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Whether the kernel held the wanted rules when it was last looked at.
    pub(crate) in_sync: AtomicBool,
    /// How often the rules were found to differ.
    pub(crate) drifts: AtomicU64,
    /// How often they were put right.
    pub(crate) repairs: AtomicU64,
    /// How often putting them right, or looking, failed.
    pub(crate) failures: AtomicU64,
}

impl Metrics {
    /// Adds one to a figure.
    pub(crate) fn count(figure: &AtomicU64) {
        figure.fetch_add(1, Ordering::Relaxed);
    }

    /// The text format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let figures = [
            (
                "in_sync",
                "gauge",
                "Whether the kernel holds the wanted rules.",
                u64::from(self.in_sync.load(Ordering::Relaxed)),
            ),
            ("drifts_total", "counter", "Times the rules were found to differ.", read(&self.drifts)),
            ("repairs_total", "counter", "Times the rules were put right.", read(&self.repairs)),
            ("failures_total", "counter", "Times looking or repairing failed.", read(&self.failures)),
        ];
        let line = |(name, kind, help, value): (&str, &str, &str, u64)| {
            format!(
                "# HELP postern_init_{name} {help}\n# TYPE postern_init_{name} {kind}\npostern_init_{name} {value}\n"
            )
        };
        figures.map(line).concat()
    }
}

/// Serves the figures until the process ends.
pub(crate) fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> Result<()> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} of --metrics-address"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, &metrics) {
                tracing::debug!(%error, "a request for metrics went unanswered");
            }
        }
    });
    Ok(())
}

/// A client has this long to ask and to read, and this much to say.
const PATIENCE: Duration = Duration::from_secs(1);
const LONGEST_REQUEST: usize = 1024;

fn answer(mut stream: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = read_head(&mut stream)?;
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        ("200 OK", metrics.text())
    } else {
        ("404 Not Found", "the figures are at /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}

/// The request up to its empty line; closing with more unread would reset the connection under the client's feet.
fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 256];
    while head.len() < LONGEST_REQUEST && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => break,
            length => head.extend_from_slice(&part[..length]),
        }
    }
    Ok(head)
}
