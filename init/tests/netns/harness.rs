//! Throw-away network namespaces, and the binary run inside them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What Istio's injector passes.
pub(crate) const INJECTED: [&str; 15] = [
    "-p",
    "15001",
    "-z",
    "15006",
    "-u",
    "1337",
    "-m",
    "REDIRECT",
    "-i",
    "*",
    "-x",
    "",
    "-b",
    "*",
    "--log_output_level=default:info",
];
/// The ports the injector leaves alone.
pub(crate) const INJECTED_PORTS: [&str; 2] = ["-d", "15090,15021,15020"];

/// The injected flags, and more.
pub(crate) fn injected<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&INJECTED[..], &INJECTED_PORTS, more].concat()
}

/// A network namespace with `lo` up and nothing else; deleted when dropped, also when a test fails.
pub(crate) struct Namespace {
    name: String,
}

/// What a program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The same, if the program succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// The same, if the program ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails unless standard error contains every one of `texts`.
    #[track_caller]
    pub(crate) fn complains(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in: {}", self.stderr);
        }
    }
}

/// Returns early from a test that has no root, saying so aloud.
macro_rules! namespace_or_skip {
    () => {
        match $crate::harness::Namespace::new() {
            Some(namespace) => namespace,
            None => return,
        }
    };
}
pub(crate) use namespace_or_skip;

impl Namespace {
    /// A new namespace; none when this user may not make one.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("postern-init-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            let required = std::env::var_os("REQUIRE_NETNS").is_some_and(|value| value == "1");
            assert!(!required, "needs root, and REQUIRE_NETNS=1");
            // Not by a print macro: those are swallowed for a test that passes.
            std::io::stderr().write_all(b"skipped: needs root\n").unwrap();
            return None;
        }
        let namespace = Self { name };
        namespace.run("ip", &["link", "set", "lo", "up"]).ok();
        Some(namespace)
    }

    /// The file that stands for the namespace.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A program to be run inside.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program inside.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Said {
        Said::from(self.command(program, arguments).output().unwrap())
    }

    /// Runs postern-init inside.
    pub(crate) fn init(&self, arguments: &[&str]) -> Said {
        self.run(BINARY, arguments)
    }

    /// Runs postern-init inside, with variables.
    pub(crate) fn init_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Said {
        let mut command = self.command(BINARY, arguments);
        Said::from(command.envs(variables.iter().copied()).output().unwrap())
    }

    /// Runs a shell script inside; it must succeed.
    #[track_caller]
    pub(crate) fn shell(&self, script: &str) -> String {
        self.run("sh", &["-euc", script]).ok().stdout
    }

    /// Every rule and chain of both families and both kinds of iptables, without counters and remarks.
    pub(crate) fn rules(&self) -> String {
        let mut text = String::new();
        for program in
            ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"]
        {
            writeln!(text, "{program}").unwrap();
            for line in self.run(program, &[]).ok().stdout.lines().filter(|line| !line.starts_with('#')) {
                let line = if line.starts_with(':') { line.rsplit_once(' ').unwrap().0 } else { line };
                writeln!(text, "{line}").unwrap();
            }
        }
        text
    }

    /// What a rewrite changes even when the rules stay the same: the handles of nftables.
    pub(crate) fn handles(&self) -> String {
        self.run("nft", &["-a", "list", "ruleset"]).ok().stdout
    }

    /// One table of one family as `-S` lists it.
    pub(crate) fn listing(&self, program: &str, table: &str) -> String {
        self.run(program, &["-t", table, "-S"]).ok().stdout
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A namespace that cannot be deleted is no reason to hide why a test failed.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A lock of iptables of its own: the usual one is every other test's, too.
pub(crate) struct Lock(tempfile::NamedTempFile);

impl Lock {
    /// One that nobody holds.
    pub(crate) fn new() -> Self {
        Self(tempfile::NamedTempFile::new().unwrap())
    }

    /// The variable that names it.
    pub(crate) fn named(&self) -> [(&str, &str); 1] {
        [("XTABLES_LOCKFILE", self.0.path().to_str().unwrap())]
    }

    /// A process that holds it while it runs a shell script; returns once it does.
    pub(crate) fn hold(&self, namespace: &Namespace, script: &str) -> Child {
        let path = self.0.path().to_str().unwrap();
        let holder = namespace.command("flock", &["--no-fork", path, "sh", "-euc", script]).spawn().unwrap();
        while self.0.as_file().try_lock().is_ok() {
            self.0.as_file().unlock().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        holder
    }
}

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_postern-init");
