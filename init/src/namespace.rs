//! The namespaces to work in, and the lock that keeps two of us from changing it at once.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::stop::Stop;

/// The network namespace of this process, as a file.
pub(crate) const CURRENT: &str = "/proc/self/ns/net";

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

/// Hides the name service switch from programs started here, so that no rule about a user or group makes iptables ask
/// the network for names. On the host's file system that can take a minute per rule.
///
/// Needs a mount namespace of our own; where there is none to be had, we go on without.
pub(crate) fn hide_name_service() {
    if let Err(error) = hide(Path::new("/etc/nsswitch.conf")) {
        tracing::warn!("iptables may look up user names over the network: {error:#}");
    }
}

fn hide(file: &Path) -> Result<()> {
    let nothing: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("cannot keep our mounts to ourselves")?;
    if !file.exists() {
        return Ok(());
    }
    mount(Some("/dev/null"), file, nothing, MsFlags::MS_BIND, nothing)
        .with_context(|| format!("cannot hide {}", file.display()))
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
///
/// # Errors
/// Somebody asked us to stop meanwhile, or it is not to be had within `wait`.
pub(crate) fn lock(wait: Duration, stop: &Stop) -> Result<Lock> {
    let file = File::open(CURRENT).with_context(|| format!("cannot open {CURRENT}: is /proc mounted?"))?;
    let is_ours = stop.try_until(wait, "another postern-init", || match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context(format!("cannot lock {CURRENT}")),
    })?;
    if !is_ours {
        bail!(
            "another postern-init has been changing this network namespace for {} seconds: wait for it, or raise \
             --lock-wait",
            wait.as_secs_f64()
        );
    }
    share_with_children(file)
}

fn share_with_children(file: File) -> Result<Lock> {
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))
        .context("cannot hand the lock on to programs started")?;
    Ok(Lock { _file: file })
}
