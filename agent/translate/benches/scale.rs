//! What a mesh of 1,000 services costs: reading, translating, memory, one change, one look-up.
//!
//! `cargo bench -p translate`. Prints the best of several runs on one core; [docs/performance.md] has the figures and
//! what is wanted of them.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fmt::Write,
    hint::black_box,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use resources::{Files, ReadDefaults};
use snapshot::{RequestHead, RouteConfig, Snapshot, match_route};
use translate::{Credentials, Proxy, ProxyKind, Translation, Translator, translate};

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 5;
const ROUTES: usize = 5;

fn main() {
    let texts: Vec<(String, String)> =
        (0..SERVICES).map(|index| (format!("{index}.yaml"), resources_of(index, "v1"))).collect();
    let size: usize = texts.iter().map(|(_, text)| text.len()).sum();
    println!(
        "{SERVICES} Services, {} endpoints, {SERVICES} VirtualServices of {ROUTES} routes, {} KiB",
        SERVICES * ENDPOINTS,
        size >> 10
    );
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("gateway.yaml", GATEWAY);
    let read = best_of(5, || {
        files = Files::new(ReadDefaults::default());
        files.replace_file("gateway.yaml", GATEWAY);
        texts.iter().for_each(|(name, text)| files.replace_file(name, text));
    });
    println!("read: {read:?}");
    for kind in [ProxyKind::Sidecar, ProxyKind::Router] {
        let proxy = Proxy::new(kind, "default");
        let (set, _) = files.resources();
        let translated = || translate(&set, &Credentials::UNSEEN, &proxy);
        let took = best_of(10, translated);
        let before = ALLOCATED.load(Ordering::Relaxed);
        let Translation { snapshot, findings, .. } = translated();
        assert!(findings.is_empty(), "{:#?}", &findings[..1]);
        let held = ALLOCATED.load(Ordering::Relaxed) - before;
        println!("{kind:?}: translated in {took:?}, {} KiB of heap", held >> 10);
        println!(
            "{kind:?}: one VirtualService changed, read and translated in {:?}",
            republished(&mut files, &proxy)
        );
        look_ups(&snapshot);
    }
    large_list();
}

const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\nspec:\n  servers:\n  \
                       - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}\n";

/// A Service with its endpoints, and a VirtualService for callers inside and at the gateway.
fn resources_of(index: usize, subset: &str) -> String {
    let (high, low) = (index / 250, index % 250);
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: svc-{index}\n  namespace: default\nspec:\n  clusterIP: 10.96.{high}.{low}\n  \
         selector:\n    app: svc-{index}\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: svc-{index}-a\n  namespace: default\n  labels:\n    \
         kubernetes.io/service-name: svc-{index}\naddressType: IPv4\nports:\n- name: http\n  port: 8080\nendpoints:\n"
    );
    for endpoint in 0..ENDPOINTS {
        let (high, low) = ((index * ENDPOINTS + endpoint) / 250, (index * ENDPOINTS + endpoint) % 250);
        write!(text, "- addresses:\n  - 10.1.{high}.{low}\n  conditions:\n    ready: true\n")
            .expect("a string");
    }
    write!(
        text,
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: svc-{index}\n  namespace: default\nspec:\n  \
         hosts:\n  - svc-{index}\n  - svc-{index}.example.com\n  gateways:\n  - gw\n  - mesh\n  http:\n"
    )
    .expect("a string");
    for route in 0..ROUTES - 1 {
        write!(
            text,
            "  - match:\n    - uri:\n        prefix: /{subset}/{route}/\n      headers:\n        x-user:\n          exact: u{route}\n    \
             route:\n    - destination:\n        host: svc-{index}\n        port:\n          number: 80\n"
        )
        .expect("a string");
    }
    write!(text, "  - route:\n    - destination:\n        host: svc-{index}\n    timeout: 5s\n")
        .expect("a string");
    text
}

/// From the text of one changed file to the finished snapshot.
fn republished(files: &mut Files, proxy: &Proxy) -> Duration {
    let (mut round, mut translator) = (0, Translator::default());
    best_of(20, || {
        round += 1;
        files.replace_file("7.yaml", &resources_of(7, &format!("v{round}")));
        let (set, _) = files.resources();
        translator.translate(&set, &Credentials::UNSEEN, proxy)
    })
}

struct Request(String, String);

impl RequestHead for Request {
    fn method(&self) -> &str {
        "GET"
    }
    fn authority(&self) -> &str {
        &self.0
    }
    fn path_and_query(&self) -> &str {
        &self.1
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        name.eq_ignore_ascii_case("x-user").then_some(b"u3")
    }
    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        visit("x-user", b"u3");
    }
}

fn look_ups(snapshot: &Snapshot) {
    let table = snapshot.route_configs().iter().max_by_key(|table| table.virtual_hosts().len());
    let table = table.expect("a route table");
    let requests: Vec<_> = (0..SERVICES)
        .map(|index| {
            let host = &table.virtual_hosts()[index % table.virtual_hosts().len()].domains[0];
            Request(format!("{host}:80"), "/v1/3/item?q=1".to_owned())
        })
        .collect();
    time_matches(&format!("{} among {} hosts", table.name(), table.virtual_hosts().len()), table, &requests);
}

/// Prints how long finding a route takes, on average over the requests.
fn time_matches(what: &str, table: &RouteConfig, requests: &[Request]) {
    // The clock of the kernel moves in steps of milliseconds: many rounds at once.
    let mut rounds = 1_000_usize.div_ceil(requests.len());
    loop {
        let took = best_of(3, || {
            for request in (0..rounds).flat_map(|_| requests) {
                _ = black_box(match_route(request, false, table));
            }
        });
        if took >= Duration::from_millis(60) {
            let each = took / u32::try_from(rounds * requests.len()).unwrap_or(u32::MAX);
            return println!("a route of {what}: {each:?}");
        }
        rounds *= 4;
    }
}

/// One host with a long list of routes, of which the last is wanted; and 10,000 hosts.
fn large_list() {
    for (what, matched) in [("prefix", "prefix: /part"), ("exact", "exact: /part"), ("regex", r"regex: /\D+")]
    {
        let rules: String = (0..1_000)
            .map(|index| format!("  - {{match: [{{uri: {{{matched}{index}/x}}}}], route: [{{destination: {{host: a}}}}]}}\n"))
            .collect();
        let text = format!("{GATEWAY}---\n{}", virtual_service("www.example.com", &rules));
        let table = gateway_table(&text);
        let request = Request("www.example.com".to_owned(), "/part999/x".to_owned());
        time_matches(&format!("1,000 by {matched} ({what})"), &table, &[request]);
    }
    let hosts: String = (0..10_000).fold(GATEWAY.to_owned(), |text, index| {
        text + "---\n"
            + &virtual_service(&format!("h{index}.example.com"), "  - route: [{destination: {host: a}}]\n")
                .replace("name: vs", &format!("name: vs-{index}"))
    });
    let table = gateway_table(&hosts);
    let requests: Vec<_> =
        (0..10_000).map(|index| Request(format!("h{index}.example.com"), "/".to_owned())).collect();
    time_matches("10,000 hosts", &table, &requests);
}

fn virtual_service(host: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec:\n  hosts: [{host}]\n  gateways: [gw]\n  \
         http:\n{rules}"
    )
}

fn gateway_table(text: &str) -> RouteConfig {
    let mut files = Files::new(ReadDefaults::default());
    files.replace_file("a.yaml", text);
    let (set, findings) = files.resources();
    assert!(findings.is_empty(), "{:#?}", &findings[..1]);
    let translation = translate(&set, &Credentials::UNSEEN, &Proxy::new(ProxyKind::Router, "default"));
    translation.snapshot.route_configs()[0].clone()
}

/// The least processor time of several rounds; what else the machine does is not counted, nor is freeing the result.
fn best_of<R>(rounds: usize, mut run: impl FnMut() -> R) -> Duration {
    let round = |_| {
        let start = processor_time();
        let result = black_box(run());
        let took = processor_time() - start;
        drop(result);
        took
    };
    (0..rounds).map(round).min().unwrap_or_default()
}

/// Time this thread has run, as Linux counts it in nanoseconds; elsewhere the time that has passed.
fn processor_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let counted = counted.and_then(|text| text.split_whitespace().next()?.parse().ok());
    counted.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Counts the bytes in use.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[expect(
    unsafe_code,
    reason = "an allocator cannot be written without it; this one only counts and passes on"
)]
// SAFETY: every call is passed on unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
