//! Named network namespaces that go away with their owner.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A network namespace under `/run/netns`, deleted on drop together with the processes still inside.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Creates the namespace with `lo` up. The name must start with [`prefix`] so that leftovers can be told.
    ///
    /// # Errors
    /// When `ip` is missing or the kernel refuses.
    pub fn create(name: String) -> Result<Self> {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_leftovers);
        let _building = building()?;
        ip(&["netns", "add", &name])?;
        let path = path_of(&name);
        let file = File::open(&path).with_context(|| format!("namespace {}", path.display()))?;
        let namespace = Self { name, file };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name `ip netns` knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip ARGS…` inside the namespace.
    ///
    /// # Errors
    /// The command line and what `ip` wrote, when it fails.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        // Not `ip -n`: that remounts `/`, which a chroot does not allow.
        self.within(|| ip(args))
    }

    /// Runs `work` on a thread inside the namespace: sockets and processes it creates belong there for good.
    ///
    /// # Panics
    /// When `work` panics, or the namespace cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace it made");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Writes a setting below `/proc/sys/net` of this namespace; a kernel without it is left as it is.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(key);
        let _ = self.within(|| fs::write(path, value));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Start of every name this process gives to a namespace or directory, by which a later run finds leftovers.
pub fn prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// Deletes what runs left behind that were killed before they could clean up: their namespaces with the processes
/// in them, and their directories. What belongs to a process that is alive stays.
pub fn remove_leftovers() {
    for name in entries(RUN_NETNS).filter(|name| is_orphan(name)) {
        delete(&name);
    }
    for name in entries(WORK_ROOT).filter(|name| is_orphan(name)) {
        let _ = fs::remove_dir_all(Path::new(WORK_ROOT).join(name));
    }
}

/// Deletes everything this process has made, and lets it make nothing more. For a program that was told to stop in
/// the middle of its work.
pub fn remove_own() {
    // Held to the end: a second caller, or one about to make something, waits until all is gone.
    let mut closed = CLOSED.lock().unwrap_or_else(PoisonError::into_inner);
    *closed = true;
    let own = prefix();
    for name in entries(RUN_NETNS).filter(|name| name.starts_with(&own)) {
        delete(&name);
    }
    for name in entries(WORK_ROOT).filter(|name| name.starts_with(&own)) {
        let _ = fs::remove_dir_all(Path::new(WORK_ROOT).join(name));
    }
}

/// Held while a namespace or a process is made, so that none is made after [`remove_own`].
pub(crate) fn building() -> Result<MutexGuard<'static, bool>> {
    let closed = CLOSED.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(!*closed, "stopped: everything is being removed");
    Ok(closed)
}

static CLOSED: Mutex<bool> = Mutex::new(false);

/// Where working directories are made. Not `$TMPDIR`: the proxy's user must be able to walk there.
pub(crate) const WORK_ROOT: &str = "/tmp";
const RUN_NETNS: &str = "/run/netns";
const PREFIX: &str = "pt-";

fn path_of(name: &str) -> PathBuf {
    Path::new(RUN_NETNS).join(name)
}

fn ip(args: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(args).output().context("the program `ip` (package iproute2)")?;
    if !out.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

fn delete(name: &str) {
    kill_inhabitants(name);
    let _ = ip(&["netns", "del", name]);
}

fn kill_inhabitants(name: &str) {
    let Ok(wanted) = fs::metadata(path_of(name)) else { return };
    for pid in entries("/proc").filter_map(|entry| entry.parse::<i32>().ok()) {
        let inside = fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()));
        if inside {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn is_orphan(name: &str) -> bool {
    let owner = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse::<u32>().ok());
    owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

fn entries(dir: &str) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_orphans() {
        assert!(is_orphan("pt-4194305-0-net"), "above the largest pid the kernel hands out");
        assert!(!is_orphan(&format!("{}0-net", prefix())));
        assert!(!is_orphan("pt-notapid-0"));
        assert!(!is_orphan("hp-4194305-0"));
    }
}
