//! A process of ours: its output in a file, an orderly end, and no survivor after drop.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::{Namespace, building};

/// A running process with `<name>.out` and `<name>.err` in a directory; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command` inside `namespace`, in a process group of its own so that a Ctrl-C meant for the test
    /// runner does not reach it.
    ///
    /// # Errors
    /// When the program cannot be started or its output files cannot be made.
    pub fn spawn(namespace: &Namespace, name: &str, dir: &Path, command: Command) -> Result<Self> {
        Self::spawn_after(|| Ok(()), namespace, name, dir, command)
    }

    /// The same after `prepare` on the thread whose surroundings the process will have.
    ///
    /// # Errors
    /// The same, and those of `prepare`.
    pub fn spawn_after(
        prepare: impl FnOnce() -> Result<()> + Send,
        namespace: &Namespace,
        name: &str,
        dir: &Path,
        mut command: Command,
    ) -> Result<Self> {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        command.stdin(Stdio::null()).stdout(log_file(&out)?).stderr(log_file(&err)?).process_group(0);
        let _building = building()?;
        let child = namespace
            .within(|| -> Result<Child> {
                prepare()?;
                Ok(command.spawn()?)
            })
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, name: name.into(), out, err })
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.err)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// When the process is gone already.
    pub fn terminate(&self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).with_context(|| format!("SIGTERM to {}", self.name))
    }

    /// Waits for the end, at most `limit`.
    ///
    /// # Errors
    /// When it is still running after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {limit:?}\n{}", self.name, self.stderr());
            }
            thread::sleep(POLL);
        }
    }

    /// The exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Repeats `attempt` until it succeeds; after `limit`, its last error.
///
/// # Errors
/// The last error of `attempt`.
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(POLL),
            outcome => return outcome.with_context(|| format!("not within {limit:?}")),
        }
    }
}

/// The proxy's uid and gid.
pub(crate) const PROXY_ID: u32 = 1337;
const POLL: Duration = Duration::from_millis(10);

fn log_file(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("log {}", path.display()))?;
    // An access log of `/dev/stdout` is opened anew by the proxy's user.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    chown(path, Some(PROXY_ID), Some(PROXY_ID))?;
    Ok(file)
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
