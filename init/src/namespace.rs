//! The network namespace to work in, and the lock that keeps two of us from changing it at once.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};

/// Goes into the network namespace behind `path`, such as `/proc/1234/ns/net` or `/run/netns/pod`.
///
/// Only the calling thread goes there, so this has to happen before any other thread is started.
pub(crate) fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| {
        format!(
            "cannot open {} of --network-namespace: expected a namespace file, for example /run/netns/pod",
            path.display()
        )
    })?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| {
        format!(
            "cannot enter {} of --network-namespace: expected a network namespace, and the capability SYS_ADMIN",
            path.display()
        )
    })
}

/// Holds off every other process of ours that changes the same network namespace; let go when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Locks the current network namespace.
///
/// The lock is on the namespace file itself: it needs no writable file system, and is the same one for every container
/// of the pod. iptables' own lock covers a single restore only, not reading, comparing and writing together.
///
/// Programs started from here on hold it with us: when we are killed while one is still writing, the next of us waits
/// until that one is done.
pub(crate) fn lock(wait: Duration) -> Result<Lock> {
    const PATH: &str = "/proc/self/ns/net";
    let file = File::open(PATH).with_context(|| format!("cannot open {PATH}: is /proc mounted?"))?;
    let deadline = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return share_with_children(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => bail!(
                "another postern-init has been changing this network namespace for {} seconds: wait for it, or raise \
                 --lock-wait",
                wait.as_secs_f64()
            ),
            Err(TryLockError::Error(error)) => return Err(error).context(format!("cannot lock {PATH}")),
        }
    }
}

fn share_with_children(file: File) -> Result<Lock> {
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))
        .context("cannot hand the lock on to programs started")?;
    Ok(Lock { _file: file })
}
