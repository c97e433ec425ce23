//! Envoy as a process.

use std::{
    collections::HashMap,
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Envoy, Proxy};
use crate::support::{PATIENCE, free_port, send};

/// What the configuration calls the file of the access log.
pub(super) const LOG: &str = "<LOG>";

/// Istio has the names of clusters as labels of metrics.
const STATS: &str = "stats_config:\n  use_all_default_tags: false\n  stats_tags:\n  - {tag_name: cluster_name, \
    regex: '^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)'}\n";

/// Ends the process with the value.
struct Running {
    process: Child,
    directory: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

impl Envoy {
    /// Runs it with these `static_resources`, and waits until it listens.
    pub(super) fn start(
        self,
        resources: &str,
        ports: HashMap<&'static str, u16>,
        endpoints: Vec<(String, &'static str)>,
    ) -> Proxy {
        let directory = TempDir::new().unwrap();
        let [file, log, said] = ["envoy.yaml", "access.log", "log"].map(|name| directory.path().join(name));
        fs::write(&log, "").unwrap();
        let admin = free_port();
        let resources = resources.replace(LOG, log.to_str().unwrap());
        let at = format!("{{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}");
        fs::write(&file, format!("admin: {at}\n{STATS}static_resources:\n{resources}")).unwrap();
        let mut command = Command::new(self.0);
        command.args(["--file-flush-interval-msec", "50", "--concurrency", "1", "--disable-hot-restart"]);
        command.args(["-l", "critical"]).arg("-c").arg(&file);
        let process = command.stdout(Stdio::null()).stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        let mut running = Running { process, directory };
        let start = Instant::now();
        // A connection to a listener would have a line in the log.
        while !is_live(admin) {
            let ended = running.process.try_wait().unwrap();
            let said = || fs::read_to_string(running.directory.path().join("log")).unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "Envoy does not listen: {}", said());
            thread::sleep(Duration::from_millis(50));
        }
        let admin = format!("127.0.0.1:{admin}");
        Proxy { ports, admin, logs: vec![log], endpoints, _processes: Box::new(running) }
    }
}

fn is_live(admin: u16) -> bool {
    TcpStream::connect(("127.0.0.1", admin)).is_ok()
        && send(admin, "GET /ready HTTP/1.1\nhost: envoy\n\n").status() == 200
}
