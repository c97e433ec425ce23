//! What reading the resources of a mesh costs: 1,000 Services, 5,000 endpoints, 1,000 VirtualServices of 5 routes.
//!
//! `cargo bench -p resources`. Prints the best of several runs on one core.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use std::{
    fmt::Write,
    hint::black_box,
    time::{Duration, Instant},
};

use resources::{Files, ReadDefaults, read};

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 5;
const ROUTES: usize = 5;

fn main() {
    let texts: Vec<String> = (0..SERVICES).map(resources_of).collect();
    let whole = texts.concat();
    println!(
        "{SERVICES} Services with VirtualServices, {} endpoints: {} KiB",
        SERVICES * ENDPOINTS,
        whole.len() >> 10
    );
    let defaults = ReadDefaults::default();
    time("read, one text", || _ = black_box(read("mesh.yaml", &whole, &defaults)));
    let mut files = Files::new(ReadDefaults::default());
    time("read, a file for each service", || {
        files = Files::new(ReadDefaults::default());
        for (index, text) in texts.iter().enumerate() {
            files.replace_file(&format!("{index}.yaml"), text);
        }
    });
    time("put in order", || _ = black_box(files.resources()));
    time("one file changed and put in order", || {
        files.replace_file("7.yaml", &texts[7]);
        _ = black_box(files.resources());
    });
}

fn time(what: &str, mut run: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    println!("{what}: {best:.1?}");
}

fn resources_of(index: usize) -> String {
    let meta = |name: &str| format!("metadata:\n  name: {name}\n  namespace: default\n");
    let name = format!("svc-{index}");
    let mut text = format!(
        "apiVersion: v1\nkind: Service\n{}spec:\n  clusterIP: 10.96.{}.{}\n  selector:\n    app: {name}\n  ports:\n  \
         - name: http\n    port: 80\n    targetPort: 8080\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n{}  labels:\n    kubernetes.io/service-name: {name}\n\
         addressType: IPv4\nports:\n- name: http\n  port: 8080\nendpoints:\n",
        meta(&name),
        index / 250,
        index % 250,
        meta(&format!("{name}-a")),
    );
    for endpoint in index * ENDPOINTS..(index + 1) * ENDPOINTS {
        let (high, low) = (endpoint / 250, endpoint % 250);
        let conditions = "conditions:\n    ready: true\n    serving: true\n    terminating: false";
        write!(text, "- addresses:\n  - 10.1.{high}.{low}\n  {conditions}\n  nodeName: node-{low}\n")
            .expect("a string");
    }
    let head = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n";
    write!(text, "{head}{}spec:\n  hosts:\n  - {name}\n  http:\n", meta(&name)).expect("a string");
    for route in 0..ROUTES {
        let matched = format!(
            "- match:\n    - uri:\n        prefix: /v1/{route}/\n      headers:\n        x-user:\n          exact: u{route}"
        );
        let to =
            format!("route:\n    - destination:\n        host: {name}\n        port:\n          number: 80");
        write!(text, "  {matched}\n    {to}\n").expect("a string");
    }
    text + "---\n"
}
