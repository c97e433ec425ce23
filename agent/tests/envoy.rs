//! The same to Envoy and to the program, compared field by field: what clients and endpoints see, and the access log.
//! The program is given resources, Envoy what Istio makes of them. What Envoy said is recorded; `scripts/compare-envoy`
//! asks a real one, and with `UPDATE_GOLDEN=1` records it anew.

mod clusters;
mod config;
mod full;
mod hashing;
mod http;
mod limits;
mod localities;
mod opaque;
mod program;
mod requests;
mod sides;

use std::{
    any::Any,
    collections::HashMap,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Agent, PATIENCE};

/// A proxy that is asked; ended with the value.
struct Proxy {
    /// Where it listens, by the name of the place.
    ports: HashMap<&'static str, u16>,
    /// The admin interface of the last.
    admin: String,
    logs: Vec<PathBuf>,
    /// What the lines call the addresses of endpoints.
    endpoints: Vec<(String, &'static str)>,
    _processes: Box<dyn Any + Sync>,
}

impl Proxy {
    /// The program, which writes its access log to its output; it may be several.
    fn programs(agents: Vec<Agent>, ports: HashMap<&'static str, u16>) -> Self {
        let logs = agents.iter().map(|agent| agent.directory.path().join("access.log")).collect();
        let admin = agents.last().map(|agent| agent.interfaces.admin.clone()).unwrap_or_default();
        Self { ports, admin, logs, endpoints: Vec::new(), _processes: Box::new(agents) }
    }

    fn port(&self, place: &str) -> u16 {
        *self.ports.get(place).unwrap_or_else(|| panic!("nothing listens for {place}"))
    }

    /// The lines for connections with these ports, with which each begins, when all are written.
    fn lines(&self, ports: &[String]) -> Vec<String> {
        let mut lines;
        let start = Instant::now();
        loop {
            lines = self.written();
            let missing: Vec<_> = (0..ports.len()).filter(|at| !lines.contains_key(&ports[*at])).collect();
            if missing.is_empty() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "no lines for connections {missing:?} in {:?}", self.logs);
            thread::sleep(Duration::from_millis(50));
        }
        ports.iter().map(|port| self.named(&lines[port])).collect()
    }

    /// The lines for connections with these ports that are written when there is one for `last`, empty where there is none.
    fn lines_before(&self, ports: &[String], last: String) -> Vec<String> {
        self.lines(&[last]);
        let lines = self.written();
        ports.iter().map(|port| lines.get(port).map_or_else(String::new, |line| self.named(line))).collect()
    }

    /// All lines so far, those of one connection in their order.
    fn written(&self) -> HashMap<String, String> {
        let text: String = self.logs.iter().map(|log| fs::read_to_string(log).unwrap()).collect();
        let mut lines = HashMap::<_, String>::new();
        // The last may be there in part only.
        for (ports, line) in
            text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '))
        {
            lines
                .entry(ports.trim_start_matches("127.0.0.1:").to_owned())
                .and_modify(|before| *before += "\n")
                .or_default()
                .push_str(line);
        }
        lines
    }

    fn named(&self, line: &str) -> String {
        self.endpoints.iter().fold(line.to_owned(), |line, (address, name)| line.replace(address, name))
    }
}

/// Ends what is recorded of a case.
const END: &str = "\n====\n";

/// Compares what `ask` makes of each proxy, case by case, with what is recorded of Envoy in a file of this directory.
fn compare(
    file: &str,
    envoy: impl FnOnce(Envoy) -> Proxy,
    program: impl FnOnce() -> Proxy,
    ask: impl Fn(&Proxy) -> Vec<String>,
) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/envoy").join(file);
    let told =
        |proxy: &Proxy| ask(proxy).iter().map(|case| case.trim_end().to_owned() + END).collect::<Vec<_>>();
    if let Some(binary) = std::env::var_os("ENVOY") {
        let told = told(&envoy(Envoy(binary))).concat();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &told).unwrap();
        }
        assert_eq!(told, fs::read_to_string(&path).unwrap(), "Envoy says other things than recorded");
    }
    let recorded = fs::read_to_string(&path).unwrap();
    let recorded: Vec<_> = recorded.split_inclusive(END).collect();
    let ours = told(&program());
    assert_eq!(recorded.len(), ours.len(), "scripts/compare-envoy records what Envoy says");
    let differing = recorded.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours);
    let differences: Vec<_> =
        differing.map(|(theirs, ours)| format!("--- Envoy\n{theirs}--- Postern\n{ours}")).collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

/// A real Envoy that can be started.
struct Envoy(std::ffi::OsString);
