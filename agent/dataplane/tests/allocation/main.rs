//! What the data plane allocates: nothing for a plain HTTP/1 request once the worker is warm, and little for a
//! connection that waits.

mod idle;
mod requests;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dataplane::{DataPlane, Settings};
use snapshot::{
    Binding, Cluster, ClusterId, ClusterTarget, Direction, Discovery, Draft, FilterChain, FilterChainMatch,
    HttpConnections, Listener, NetworkFilter, PathMatch, Route, RouteAction, RouteConfig, RouteConfigId,
    RouteMatch, VirtualHost, WeightedClusters,
};

/// Counts for the whole process: client and upstream here allocate nothing while they are measured.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Those of two kilobytes and more.
static LARGE: AtomicUsize = AtomicUsize::new(0);
/// Bytes allocated and not freed.
static HELD: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator cannot be written without it; this one only counts and passes on"
)]
// SAFETY: every call is passed on unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LARGE.fetch_add(usize::from(layout.size() >= 2048), Ordering::Relaxed);
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        HELD.fetch_add(size, Ordering::Relaxed);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUEST: &[u8] =
    b"GET /api/v1/x?q=1 HTTP/1.1\r\nHost: svc.default\r\nUser-Agent: test\r\nAccept: */*\r\n\
                         X-Forwarded-For: 10.1.1.1\r\nCookie: a=b\r\n\r\n";
/// Preface, and settings that ask for nothing (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nServer: fake\r\n\r\nhello";

/// More than a tick of a worker, so that what has ended is forgotten.
const SETTLE: Duration = Duration::from_millis(1200);

/// A worker in front of an upstream that answers one connection after the other.
struct Proxy {
    address: SocketAddr,
    plane: DataPlane,
    runtime: tokio::runtime::Runtime,
    /// The counts are of the process, so tests take turns.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Proxy {
    fn start(draft: impl FnOnce(SocketAddr, SocketAddr) -> Draft) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::sleep(SETTLE);
        let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
        let upstream_address = upstream.local_addr().expect("an address");
        std::thread::spawn(move || answer_for_ever(&upstream));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut plane = DataPlane::start(&Settings::default()).expect("a worker");
        let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let published = runtime.block_on(plane.publish(Arc::new(draft(address, upstream_address).finish())));
        assert!(published.refused.is_empty());
        Self { address, plane, runtime, _turn: turn }
    }

    fn active_connections(&self) -> usize {
        let counts = self.runtime.block_on(self.plane.counts());
        usize::try_from(counts.active_connections).expect("few")
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("a connection");
        client.set_nodelay(true).expect("an option");
        client
    }
}

fn ask(client: &mut TcpStream, buffer: &mut [u8]) {
    client.write_all(REQUEST).expect("a request");
    read_until(client, buffer, b"hello").expect("an answer");
}

/// A request for `/api/v1` of `svc.default` on a stream of HTTP/2 (RFC 9113 §4, RFC 7541 §6).
fn http2_request(stream: u32) -> [u8; 33] {
    let mut request = *b"\x00\x00\x18\x01\x05\x00\x00\x00\x00\x82\x86\x04\x07/api/v1\x01\x0bsvc.default";
    request[5..9].copy_from_slice(&stream.to_be_bytes());
    request
}

fn answer_for_ever(upstream: &TcpListener) {
    let mut buffer = [0; 4096];
    loop {
        let (mut stream, _) = upstream.accept().expect("a connection");
        stream.set_nodelay(true).expect("an option");
        while read_until(&mut stream, &mut buffer, b"\r\n\r\n").is_some() {
            stream.write_all(ANSWER).expect("an answer");
        }
    }
}

/// Reads to the end of a message; `None` when the peer closes before.
fn read_until(stream: &mut impl Read, buffer: &mut [u8], end: &[u8]) -> Option<()> {
    let mut filled = 0;
    while !buffer[..filled].ends_with(end) {
        let n = stream.read(&mut buffer[filled..]).ok()?;
        filled += n;
        if n == 0 {
            return None;
        }
    }
    Some(())
}

fn gateway(address: SocketAddr, upstream: SocketAddr) -> Draft {
    let target = ClusterTarget {
        name: "test".to_owned(),
        id: Some(ClusterId(0)),
        weight: 1,
        authority: None,
        headers: None,
    };
    let action = RouteAction::Forward(WeightedClusters::new(vec![target]).expect("a destination").into());
    // Counts of its own cost a request no memory either.
    let matches = RouteMatch::on_path(PathMatch::prefix("/api/"));
    let route = Route { stat_prefix: Some("api".into()), ..Route::new(matches, action) };
    let domains = vec!["svc.default".parse().expect("a host")];
    let host = VirtualHost {
        name: "svc".to_owned(),
        domains,
        require_tls: false,
        required_by: String::new(),
        tls_exempt: Vec::new(),
        routes: vec![route].into(),
    };
    let filter = NetworkFilter::Http(HttpConnections::new(RouteConfigId(0)));
    Draft {
        listeners: vec![Listener {
            name: "gateway".to_owned(),
            direction: Direction::Gateway,
            binding: Binding::Socket(address),
            filter_chains: vec![FilterChain {
                name: "http".to_owned(),
                matches: FilterChainMatch::default(),
                tls: None,
                filter,
            }],
            default_filter_chain: None,
        }],
        route_configs: vec![RouteConfig::new("http.80", vec![host])],
        clusters: vec![Cluster::new("test", Discovery::of_addresses([upstream]))],
        ..Draft::default()
    }
}
