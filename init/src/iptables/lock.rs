//! The lock of legacy iptables: which file it is, how long to wait for it, and who holds it.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use nix::unistd::{AccessFlags, access};
use rules::settings::Options;

use crate::stop::Stop;

/// The variable that names the lock file, from iptables 1.8.6 on.
pub(crate) const VARIABLE: &str = "XTABLES_LOCKFILE";

/// Where the lock is when nothing names it.
const USUAL: &str = "/run/xtables.lock";

/// The mount namespace, which is our own in CNI mode.
const NOBODYS: &str = "/proc/self/ns/mnt";

/// Whether iptables could not open its lock file: the root file system may be read-only, or the file that of another
/// user namespace.
fn cannot_be_opened() -> bool {
    if Path::new(USUAL).exists() {
        access(USUAL, AccessFlags::R_OK).is_err()
    } else {
        access("/run", AccessFlags::W_OK).is_err()
    }
}

/// Whether this file is the network namespace we work in, and so locked by ourselves.
fn is_our_own(file: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    identity(file).is_some() && identity(file) == identity(Path::new(crate::namespace::CURRENT))
}

/// How to lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Locking {
    /// How long to wait.
    pub(crate) wait: Duration,
    /// The lock file to use instead of the usual one.
    pub(crate) file: Option<PathBuf>,
}

impl Locking {
    /// As the options ask for, in the current network namespace.
    ///
    /// A CNI plugin shares the host's file system with every other pod's, so the lock is the namespace file rather than
    /// one file for the whole host. That lock is ours already, for the whole of reading, comparing and writing; what is
    /// left for iptables is a file that nobody else locks.
    pub(crate) fn new(options: &Options) -> Self {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let in_namespace = options.cni_mode && options.network_namespace.is_some();
        let file = match named {
            Some(named) if is_our_own(&named) => Some(PathBuf::from(NOBODYS)),
            Some(named) => Some(named),
            None => (in_namespace || cannot_be_opened()).then(|| PathBuf::from(NOBODYS)),
        };
        Self { wait: options.lock_wait, file }
    }

    /// Whether somebody holds the lock now, and so may be changing the tables.
    pub(crate) fn is_held(&self) -> bool {
        // What cannot be opened is for iptables to complain of; what is not there nobody holds.
        File::open(self.path()).is_ok_and(|file| is_locked(&file))
    }

    /// Waits until nobody holds the lock, so that no program has to wait for it that cannot be stopped.
    ///
    /// # Errors
    /// Somebody asked us to stop meanwhile, or somebody holds it all the time.
    pub(crate) fn wait_until_free(&self, stop: &Stop) -> Result<()> {
        let Ok(file) = File::open(self.path()) else { return Ok(()) };
        let is_free = stop.try_until(self.wait, "the lock of iptables", || Ok(!is_locked(&file)))?;
        if is_free { Ok(()) } else { Err(self.not_had()) }
    }

    /// Why there is no going on without it.
    pub(super) fn not_had(&self) -> anyhow::Error {
        let holder =
            self.holder().map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}"));
        anyhow!(
            "the lock of iptables was not to be had within {} seconds: {holder} holds it; wait for it, or raise \
             --lock-wait",
            self.seconds()
        )
    }

    fn path(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(USUAL))
    }

    /// The seconds to wait, as iptables takes them.
    pub(crate) fn seconds(&self) -> f64 {
        self.wait.as_secs_f64().ceil().max(1.0)
    }

    /// The process that holds the lock, as far as it can be seen from here.
    fn holder(&self) -> Option<u32> {
        let inode = std::fs::metadata(self.path()).ok()?.ino();
        holder_in(&std::fs::read_to_string("/proc/locks").ok()?, inode)
    }
}

/// Whether somebody else has locked the file.
fn is_locked(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// The process that holds a lock on the file with this inode, in the text of `/proc/locks`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        // "1: FLOCK  ADVISORY  WRITE 10176 fe:00:10051586 0 EOF"; those who wait have "->" behind the number.
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == "FLOCK").then_some(())?;
        let holder = words.nth(2)?;
        let file = words.next()?;
        (file.rsplit(':').next()?.parse() == Ok(inode)).then(|| holder.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "1: POSIX  ADVISORY  WRITE 11 fe:00:7 0 EOF\n2: FLOCK  ADVISORY  WRITE 22 fe:00:7 0 EOF\n\
                         2: -> FLOCK  ADVISORY  WRITE 33 fe:00:7 0 EOF\n3: FLOCK  ADVISORY  READ 44 fe:00:9 0 EOF\nbroken\n";

    #[test]
    fn the_holder_is_told_from_those_who_wait_and_from_other_locks() {
        assert_eq!(holder_in(LOCKS, 7), Some(22));
        assert_eq!(holder_in(LOCKS, 9), Some(44));
        assert_eq!(holder_in(LOCKS, 8), None);
        assert_eq!(holder_in("", 7), None);
    }
}
