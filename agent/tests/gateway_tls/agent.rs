//! The program as a process, with a directory of its own.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::ports::free_port;

/// A running gateway; ended with the value.
pub(crate) struct Agent {
    /// Certificates are in `certs`, resources in `config`, what it prints in `log` and `access.log`.
    pub(crate) directory: TempDir,
    process: Child,
    pub(crate) admin: u16,
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// A directory for certificates and resources.
pub(crate) fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    for name in ["certs", "config"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    directory
}

impl Agent {
    /// Starts over the resources in a directory; `more` are further flags.
    pub(crate) fn start(directory: TempDir, more: &[&str]) -> Self {
        let [admin, status, stats, agent] = [(); 4].map(|()| free_port());
        let file = |name: &str| fs::File::create(directory.path().join(name)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_postern-agent"))
            .args(["proxy", "router", "--config-dir"])
            .arg(directory.path().join("config"))
            .args(["--admin-port", &admin.to_string(), "--status-port", &status.to_string()])
            .args(["--stats-port", &stats.to_string(), "--agent-port", &agent.to_string()])
            .args(more)
            .stdout(file("access.log"))
            .stderr(file("log"))
            .spawn()
            .unwrap();
        Self { directory, process, admin }
    }

    pub(crate) fn await_port(&self, port: u16) {
        self.until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// Waits for something that takes the program a moment.
    pub(crate) fn until(&self, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        self.printed("log")
    }

    /// The first line of the log with all these texts, once it is there.
    pub(crate) fn log_line(&self, texts: &[&str]) -> String {
        self.line("log", texts)
    }

    /// The first line of the access log with all these texts, once it is there.
    pub(crate) fn access_line(&self, texts: &[&str]) -> String {
        self.line("access.log", texts)
    }

    /// KiB of memory that the program holds, without the pages of its file.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    fn line(&self, file: &str, texts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let printed = self.printed(file);
            if let Some(line) = printed.lines().find(|line| texts.iter().all(|text| line.contains(text))) {
                return line.to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no {texts:?} in {file}: {printed}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn printed(&self, file: &str) -> String {
        fs::read_to_string(self.directory.path().join(file)).unwrap()
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.directory.path().join("certs")
    }
}

pub(crate) fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: there is no {program} here");
    }
    found
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs `openssl` with arguments split at spaces in a directory.
pub(crate) fn openssl(directory: &std::path::Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{arguments}: {}", text(&output));
}
