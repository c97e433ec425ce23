//! The same to Envoy and to the program, compared field by field: what clients and endpoints see, and the access log.
//! The program is given resources, Envoy what Istio makes of them. What Envoy said is recorded; `scripts/compare-envoy`
//! asks a real one, and with `UPDATE_GOLDEN=1` records it anew.

mod config;
mod opaque;
mod program;

use std::{any::Any, collections::HashMap, fs, path::PathBuf};

use crate::support::{Agent, eventually};

/// A proxy that is asked; ended with the value.
struct Proxy {
    /// Where it listens, by the name of the place.
    ports: HashMap<&'static str, u16>,
    log: PathBuf,
    /// What the lines call the addresses of endpoints.
    endpoints: Vec<(String, &'static str)>,
    _process: Box<dyn Any>,
}

impl Proxy {
    /// The program, which writes its access log to its output.
    fn program(
        agent: Agent,
        ports: HashMap<&'static str, u16>,
        endpoints: Vec<(String, &'static str)>,
    ) -> Self {
        let log = agent.directory.path().join("access.log");
        Self { ports, log, endpoints, _process: Box::new(agent) }
    }

    fn port(&self, place: &str) -> u16 {
        *self.ports.get(place).unwrap_or_else(|| panic!("nothing listens for {place}"))
    }

    /// The lines for connections from these ports, with which each begins, when all are written.
    fn lines(&self, ports: &[u16]) -> Vec<String> {
        let mut lines = HashMap::new();
        eventually(&format!("lines for {ports:?} in {}", self.log.display()), || {
            let text = fs::read_to_string(&self.log).unwrap();
            let line = |line: &str| {
                let (port, line) = line.split_once(' ')?;
                Some((port.parse::<u16>().ok()?, line.to_owned()))
            };
            lines = text.lines().filter_map(line).collect();
            ports.iter().all(|port| lines.contains_key(port))
        });
        ports.iter().map(|port| self.named(&lines[port])).collect()
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
