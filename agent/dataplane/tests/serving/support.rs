//! A proxy on loopback, fake upstreams named for how they behave, and a client that speaks raw bytes.

use std::{
    hash::{BuildHasher, RandomState},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dataplane::{DataPlane, DrainTime, Settings, Telemetry};
use snapshot::{
    Application, Binding, Cluster, ClusterId, ClusterTarget, Direction, Discovery, Draft, FilterChain,
    FilterChainMatch, Forward, HttpConnections, Listener, NetworkFilter, PathMatch, RetryCondition, RetryOn,
    RetryPolicy, Route, RouteAction, RouteConfig, RouteConfigId, RouteList, RouteMatch, TcpProxy,
    VirtualHost, WeightedClusters,
};

/// How long anything is waited for that must come: longer than a machine needs that is busy with other things, and less
/// than any limit of time that the proxy has by default.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running proxy with one worker.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) plane: DataPlane,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Proxy {
    pub(crate) fn start(settings: Settings, draft: impl FnOnce(SocketAddr) -> Draft) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut plane = DataPlane::start(&settings).unwrap();
        let address = free_address();
        let published = runtime.block_on(plane.publish(Arc::new(draft(address).finish())));
        assert!(published.refused.is_empty(), "{:?}", published.refused);
        Self { address, plane, runtime }
    }

    /// A gateway that sends every request to these endpoints.
    pub(crate) fn gateway(endpoints: &[SocketAddr]) -> Self {
        Self::start(Settings::default(), |address| gateway_draft(address, endpoints))
    }

    pub(crate) fn publish(&mut self, draft: Draft) {
        let published = self.runtime.block_on(self.plane.publish(Arc::new(draft.finish())));
        assert!(published.refused.is_empty(), "{:?}", published.refused);
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// What was counted of all that is answered by now.
    pub(crate) fn telemetry(&self) -> Telemetry {
        // A worker that answers has done what it began before.
        self.runtime.block_on(self.plane.counts());
        self.plane.telemetry().read()
    }
}

/// An address that nobody listens on. Its port is below those that the kernel hands out: no other test gets it by
/// chance before the proxy listens, beside which it would listen then.
pub(crate) fn free_address() -> SocketAddr {
    (0..100)
        .map(|attempt: u32| 10_000 + (RandomState::new().hash_one(attempt) % 20_000) as u16)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .unwrap()
}

pub(crate) fn cluster(name: &str, discovery: Discovery) -> Cluster {
    Cluster { connect_timeout: Duration::from_secs(2), ..Cluster::new(name, discovery) }
}

pub(crate) fn endpoints(addresses: &[SocketAddr]) -> Discovery {
    Discovery::of_addresses(addresses.iter().copied())
}

pub(crate) fn to_cluster(id: Option<u32>) -> WeightedClusters {
    let name = "outbound|80||test.default.svc.cluster.local".to_owned();
    WeightedClusters::new(vec![ClusterTarget {
        name,
        id: id.map(ClusterId),
        weight: 1,
        authority: None,
        headers: None,
    }])
    .unwrap()
}

/// Istio's policy for routes that say nothing.
pub(crate) fn retrying() -> RetryPolicy {
    use RetryCondition as On;
    let conditions = vec![
        On::ConnectFailure,
        On::RefusedStream,
        On::GrpcUnavailable,
        On::GrpcCancelled,
        On::RetriableStatusCodes,
    ];
    RetryPolicy {
        attempts: 2,
        on: RetryOn { conditions, statuses: Vec::new() },
        per_try_timeout: None,
        backoff: Duration::from_millis(25),
        avoid_previous_hosts: true,
        remote_localities: false,
        only_idempotent: false,
    }
}

/// Sends to the first cluster as a generated route does.
pub(crate) fn forwarding() -> RouteAction {
    RouteAction::Forward(Forward { retries: Some(Arc::new(retrying())), ..to_cluster(Some(0)).into() })
}

pub(crate) fn route(path: PathMatch, action: RouteAction) -> Route {
    Route { name: Some("default".to_owned()), ..Route::new(RouteMatch::on_path(path), action) }
}

pub(crate) fn route_config(domain: &str, routes: impl Into<RouteList>) -> RouteConfig {
    let host = VirtualHost {
        name: format!("{domain}:80"),
        domains: vec![domain.parse().unwrap()],
        require_tls: false,
        required_by: String::new(),
        tls_exempt: Vec::new(),
        routes: routes.into(),
    };
    RouteConfig::new("http.80", vec![host])
}

pub(crate) fn http_chain(matches: FilterChainMatch) -> FilterChain {
    let filter = NetworkFilter::Http(HttpConnections::new(RouteConfigId(0)));
    FilterChain { name: "http".to_owned(), matches, tls: None, filter }
}

pub(crate) fn tcp_chain(id: u32) -> FilterChain {
    let filter = NetworkFilter::Tcp(TcpProxy { clusters: to_cluster(Some(id)) });
    FilterChain { name: "tcp".to_owned(), matches: FilterChainMatch::default(), tls: None, filter }
}

pub(crate) fn gateway_draft(address: SocketAddr, upstreams: &[SocketAddr]) -> Draft {
    Draft {
        listeners: vec![Listener {
            name: "gateway".to_owned(),
            direction: Direction::Gateway,
            binding: Binding::Socket(address),
            filter_chains: vec![http_chain(FilterChainMatch::default())],
            default_filter_chain: None,
        }],
        route_configs: vec![route_config("*", vec![route(PathMatch::Any, forwarding())])],
        clusters: vec![cluster("test", endpoints(upstreams))],
        ..Draft::default()
    }
}

/// A captured port: HTTP by its looks goes to cluster 0, everything else to the original destination.
pub(crate) fn sidecar_draft(address: SocketAddr, upstreams: &[SocketAddr]) -> Draft {
    let http = FilterChainMatch { application: Some(Application::Http), ..FilterChainMatch::default() };
    let mut draft = gateway_draft(address, upstreams);
    draft.listeners[0].direction = Direction::Outbound;
    draft.listeners[0].filter_chains = vec![http_chain(http)];
    draft.listeners[0].default_filter_chain = Some(tcp_chain(1));
    draft.clusters.push(cluster("PassthroughCluster", Discovery::OriginalDestination));
    draft
}

/// A client that writes and reads bytes.
pub(crate) struct Client<S = TcpStream>(pub(crate) S);

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Client<S> {
    /// Writes for as long as the peer listens; one that has gone may have answered before, which reading tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        match self.0.write_all(bytes.as_ref()) {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            written => written.unwrap(),
        }
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).answer()
    }

    /// Reads one answer, with a body of known length or of chunks.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let mut answer = Answer { head, body: Vec::new() };
        if answer.field("transfer-encoding").is_some() {
            answer.body = self.chunks();
        } else if let Some(length) = answer.field("content-length") {
            answer.body = self.exactly(length.parse().unwrap());
        }
        answer
    }

    pub(crate) fn head(&mut self) -> String {
        String::from_utf8(self.until(b"\r\n\r\n")).unwrap()
    }

    pub(crate) fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            bytes.extend(self.exactly(1));
        }
        bytes
    }

    pub(crate) fn exactly(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// What comes until the connection ends, however it ends.
    pub(crate) fn rest_or_reset(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        _ = self.0.read_to_end(&mut bytes);
        bytes
    }

    /// The data of a body in chunks.
    pub(crate) fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.until(b"\r\n")).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            body.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }
}

/// A server that runs `behave` on every connection and counts them.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) fn start(behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), behave)
    }

    pub(crate) fn start_at(at: SocketAddr, behave: impl Fn(Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let behave = Arc::new(behave);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let behave = Arc::clone(&behave);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || behave(Client(stream)));
            }
        });
        Self { address, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Answers every request with its own head as the body.
    pub(crate) fn echoing_heads() -> Self {
        Self::start(|mut client| {
            while let Some(head) = client.request_head() {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nserver: fake\r\n\r\n{head}",
                    head.len()
                );
                client.send(answer);
            }
        })
    }

    /// Sends the same bytes after every request head.
    pub(crate) fn answering(bytes: &'static [u8]) -> Self {
        Self::start(move |mut client| while client.request_head().map(|_| client.send(bytes)).is_some() {})
    }
}

impl Client {
    /// Reads a request's head; `None` when the connection has ended.
    pub(crate) fn request_head(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                _ => return None,
            }
        }
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A drain that ends with the last connection.
pub(crate) fn within(seconds: u64) -> DrainTime {
    DrainTime { minimum: Duration::ZERO, limit: Duration::from_secs(seconds) }
}
