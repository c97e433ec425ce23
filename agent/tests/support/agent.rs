//! The program as a process, with a directory of its own.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{PATIENCE, agent, free_port, text};

/// How the program is to run.
pub(crate) struct Setup {
    directory: TempDir,
    command: Command,
    interfaces: Interfaces,
    output: Option<Stdio>,
    log: Option<Stdio>,
}

/// Addresses of the program's own interfaces.
#[derive(Clone)]
pub(crate) struct Interfaces {
    pub(crate) admin: String,
    pub(crate) status: String,
    pub(crate) stats: String,
    pub(crate) agent: String,
}

impl Setup {
    /// A gateway.
    pub(crate) fn router() -> Self {
        Self::new("router")
    }

    /// A sidecar, with capture ports of its own.
    pub(crate) fn sidecar() -> Self {
        let [outbound, inbound] = [(); 2].map(|()| free_port().to_string());
        Self::new("sidecar").flags(&["--outbound-port", &outbound, "--inbound-port", &inbound])
    }

    fn new(role: &str) -> Self {
        let directory = TempDir::new().unwrap();
        for name in ["certs", "config"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern-agent"));
        command.args(["proxy", role]);
        let mut interface = |flag: &str| {
            let port = free_port().to_string();
            command.args([flag, &port]);
            format!("127.0.0.1:{port}")
        };
        let interfaces = Interfaces {
            admin: interface("--admin-port"),
            status: interface("--status-port"),
            stats: interface("--stats-port"),
            agent: interface("--agent-port"),
        };
        Self { directory, command, interfaces, output: None, log: None }
    }

    /// Where the program's own interfaces will be.
    pub(crate) fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Where certificates are kept.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.directory.path().join("certs")
    }

    /// Where resources are kept.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// Writes a file of resources.
    pub(crate) fn resources(self, file: &str, yaml: &str) -> Self {
        fs::write(self.config().join(file), yaml).unwrap();
        self
    }

    /// Has resources read from a directory that is somebody else's.
    pub(crate) fn config_dir(self, directory: &Path) -> Self {
        let path = directory.display().to_string();
        self.flags(&["--config-dir", &path])
    }

    /// Mesh-wide settings.
    pub(crate) fn mesh(self, yaml: &str) -> Self {
        let path = self.directory.path().join("mesh.yaml");
        fs::write(&path, yaml).unwrap();
        self.flags(&["--mesh-config", path.to_str().unwrap()])
    }

    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.command.args(flags);
        self
    }

    pub(crate) fn variables(mut self, variables: &[(&str, &str)]) -> Self {
        self.command.envs(variables.iter().copied());
        self
    }

    /// Has the program write its results, such as the access log, somewhere else than into `access.log`.
    pub(crate) fn output(self, output: impl Into<Stdio>) -> Self {
        Self { output: Some(output.into()), ..self }
    }

    /// Has the program write its log somewhere else than into `log`.
    pub(crate) fn log(self, log: impl Into<Stdio>) -> Self {
        Self { log: Some(log.into()), ..self }
    }

    /// Starts the program, and waits for nothing.
    pub(crate) fn start(mut self) -> Agent {
        let path = self.directory.path();
        let file = |name: &str| Stdio::from(fs::File::create(path.join(name)).unwrap());
        if !self.command.get_args().any(|argument| argument == "--config-dir") {
            self.command.arg("--config-dir").arg(path.join("config"));
        }
        let output = self.output.unwrap_or_else(|| file("access.log"));
        let log = self.log.unwrap_or_else(|| file("log"));
        let process = Mutex::new(self.command.stdout(output).stderr(log).spawn().unwrap());
        Agent { directory: self.directory, process, interfaces: self.interfaces }
    }
}

/// The program, running; ended with the value.
pub(crate) struct Agent {
    /// Certificates are in `certs`, resources in `config`, what it prints in `log` and `access.log`.
    pub(crate) directory: TempDir,
    process: Mutex<Child>,
    pub(crate) interfaces: Interfaces,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap();
        _ = process.kill();
        _ = process.wait();
    }
}

impl Agent {
    pub(crate) fn process_id(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// How the program ended; `None` while it runs.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.process.lock().unwrap().try_wait().unwrap()
    }

    /// Waits until the program has ended, and that it says all was well.
    pub(crate) fn await_end(&self) {
        super::eventually("the program ends", || {
            self.ended().is_some_and(|status| {
                assert_eq!(status.code(), Some(0), "{}", self.log());
                true
            })
        });
    }

    /// Waits for something that takes the program a moment, but not when it has ended.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            let ended = self.ended();
            assert!(ended.is_none(), "ended before {what}: {ended:?}\n{}", self.log());
            assert!(start.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until somebody listens, which costs a connection.
    pub(crate) fn await_port(&self, port: u16) {
        self.await_listener("127.0.0.1", port);
    }

    pub(crate) fn await_listener(&self, host: &str, port: u16) {
        self.until(&format!("a listener at {host}:{port}"), || TcpStream::connect((host, port)).is_ok());
    }

    /// Waits until the program says that it is ready.
    pub(crate) fn await_ready(&self) {
        let timeout = format!("{}s", PATIENCE.as_secs());
        let waited = agent(&["wait", "--timeout", &timeout, "--status", &self.interfaces.status]);
        assert!(waited.status.success(), "{}\n{}", text(&waited), self.log());
    }

    /// Waits until `/clusters` of the admin interface says this.
    pub(crate) fn await_clusters(&self, text: &str) {
        let clusters = || super::printed(&["request", "GET", "/clusters", "--admin", &self.interfaces.admin]);
        self.until(&format!("{text} among the clusters"), || clusters().contains(text));
    }

    pub(crate) fn log(&self) -> String {
        self.printed("log")
    }

    pub(crate) fn access_log(&self) -> String {
        self.printed("access.log")
    }

    /// The first line of the log with all these texts, once it is there.
    pub(crate) fn log_line(&self, texts: &[&str]) -> String {
        self.line("log", texts)
    }

    /// The first line of the access log with all these texts, once it is there.
    pub(crate) fn access_line(&self, texts: &[&str]) -> String {
        self.line("access.log", texts)
    }

    fn line(&self, file: &str, texts: &[&str]) -> String {
        let mut found = None;
        let start = Instant::now();
        while found.is_none() {
            let printed = self.printed(file);
            found =
                printed.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned);
            assert!(found.is_some() || start.elapsed() < PATIENCE, "no {texts:?} in {file}: {printed}");
            thread::sleep(Duration::from_millis(20));
        }
        found.unwrap()
    }

    fn printed(&self, file: &str) -> String {
        fs::read_to_string(self.directory.path().join(file)).unwrap_or_default()
    }

    /// KiB of memory that the program holds, without the pages of its file.
    pub(crate) fn memory(&self) -> usize {
        self.kibibytes("RssAnon:")
    }

    /// KiB of memory that the program has held at most.
    pub(crate) fn most_memory(&self) -> usize {
        self.kibibytes("VmHWM:")
    }

    fn kibibytes(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process_id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.directory.path().join("certs")
    }

    /// Puts a file of resources into the place of another at once.
    pub(crate) fn replace(&self, file: &str, yaml: &str) {
        let draft = self.directory.path().join(file);
        fs::write(&draft, yaml).unwrap();
        fs::rename(draft, self.directory.path().join("config").join(file)).unwrap();
    }
}
