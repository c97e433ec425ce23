//! Looks through directories and reads the files that changed since the last look.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use nix::libc::O_NONBLOCK;
use resources::{Files, Finding, Place, Problem, ReadDefaults, ResourceSet, Rule, Severity, Timestamp};

use super::{
    certificates::{Certificates, Wanted},
    watch::{Touch, Touched},
};
use crate::{Update, bounds};

/// The state of all directories at the last look.
#[derive(Debug)]
pub(super) struct Scanner {
    directories: Vec<PathBuf>,
    files: Files,
    seen: BTreeMap<PathBuf, Seen>,
    unlisted: BTreeMap<PathBuf, String>,
    certificates: Option<Certificates>,
    touched: BTreeSet<OsString>,
    /// Files that somebody is writing, and since when.
    unfinished: BTreeMap<OsString, Instant>,
    is_first: bool,
}

/// What a file was at the last look; while it stays the same it is not read again.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Seen {
    Read(Fingerprint),
    Unreadable(String),
}

/// Tells versions of a file apart. A file touched while it was watched is read even if this is unchanged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// How long a file that is being written keeps what was read of it: half of it is not what its writer means. Longer than
/// that it is no write, but a file kept open.
const LONGEST_WRITE: Duration = Duration::from_secs(5);

impl Scanner {
    pub(super) fn new(directories: Vec<PathBuf>, defaults: ReadDefaults) -> Self {
        let mut known = BTreeSet::new();
        let directories =
            directories.into_iter().filter(|directory| known.insert(directory.clone())).collect();
        Self {
            directories,
            files: Files::new(defaults),
            seen: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            certificates: None,
            touched: BTreeSet::new(),
            unfinished: BTreeMap::new(),
            is_first: true,
        }
    }

    pub(super) fn read_certificates(&mut self, wanted: Wanted) {
        self.certificates = Some(Certificates::new(wanted));
    }

    /// All that is to be watched.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        let of_certificates = self.certificates.iter().flat_map(Certificates::directories);
        self.directories.iter().map(PathBuf::as_path).chain(of_certificates)
    }

    /// Takes note of files that were touched: they are read at the next scan however unchanged they look.
    /// Those that are still being written are left alone until they are not, or for [`LONGEST_WRITE`].
    pub(super) fn expect_change(&mut self, touched: Touched) {
        for (name, touch) in touched {
            match touch {
                Touch::Begun => _ = self.unfinished.entry(name.clone()).or_insert_with(Instant::now),
                Touch::Done => _ = self.unfinished.remove(&name),
            }
            self.touched.insert(name);
        }
    }

    fn is_unfinished(&self, file: &Path) -> bool {
        let begun = file.file_name().and_then(|name| self.unfinished.get(name));
        begun.is_some_and(|begun| begun.elapsed() < LONGEST_WRITE)
    }

    /// Reads what changed. Returns everything in force when it differs from the last time, and the first time.
    pub(super) fn scan(&mut self) -> Option<Update> {
        let is_first = std::mem::take(&mut self.is_first);
        let mut changed = is_first;
        for directory in self.directories.clone() {
            changed |= self.scan_directory(&directory);
        }
        self.files.date((!is_first).then(now));
        let read = changed.then(|| self.files.resources());
        if let Some(certificates) = &mut self.certificates {
            if let Some((set, _)) = &read {
                certificates.want_for(set);
            }
            changed |= certificates.scan(&self.touched);
        }
        self.unfinished.retain(|_, begun| begun.elapsed() < LONGEST_WRITE);
        self.touched.retain(|name| self.unfinished.contains_key(name));
        changed.then(|| self.update(read.unwrap_or_else(|| self.files.resources())))
    }

    fn scan_directory(&mut self, directory: &Path) -> bool {
        let listed = match list(directory) {
            Ok(listed) => listed,
            Err(error) => {
                let reason = error.to_string();
                return self.unlisted.insert(directory.to_owned(), reason.clone()) != Some(reason);
            }
        };
        let mut changed = self.unlisted.remove(directory).is_some();
        let is_gone = |file: &&PathBuf| file.parent() == Some(directory) && !listed.contains(*file);
        let gone: Vec<PathBuf> = self.seen.keys().filter(is_gone).cloned().collect();
        for file in gone {
            self.seen.remove(&file);
            self.files.remove_file(&shown(&file));
            changed = true;
        }
        for file in listed {
            changed |= !self.is_unfinished(&file) && self.scan_file(&file);
        }
        changed
    }

    fn scan_file(&mut self, file: &Path) -> bool {
        let touched = file.file_name().is_some_and(|name| self.touched.contains(name));
        let seen = match fingerprint(file) {
            Ok(fingerprint) if !touched && self.seen.get(file) == Some(&Seen::Read(fingerprint)) => {
                return false;
            }
            Ok(_) => read_text(file),
            Err(error) => Err(error),
        };
        match seen {
            Ok((fingerprint, text)) => {
                self.files.replace_file(&shown(file), &text);
                self.seen.insert(file.to_owned(), Seen::Read(fingerprint));
                true
            }
            Err(error) => {
                let reason = error.to_string();
                self.files.mark_unreadable(&shown(file), &reason);
                let now = Seen::Unreadable(reason);
                let before = self.seen.get(file);
                let differs = before != Some(&now);
                self.seen.insert(file.to_owned(), now);
                differs
            }
        }
    }

    fn update(&self, (set, findings): (ResourceSet, Vec<Finding>)) -> Update {
        let away = self.unlisted.iter().map(|(directory, reason)| Finding {
            severity: Severity::Error,
            rule: Rule::Unreadable,
            place: Some(Place::whole(shown(directory))),
            resource: None,
            path: String::new(),
            problem: Problem::new(format!("directory cannot be read: {reason}"))
                .remedy("what was read from it stays in force; it is tried again every 2 seconds"),
        });
        let certificates = self.certificates.as_ref().map(|certificates| certificates.files().clone());
        Update {
            set,
            certificates: certificates.unwrap_or_default(),
            findings: away.chain(findings).collect(),
        }
    }
}

/// The resource files of a directory, sorted: visible, named `*.yaml`, `*.yml` or `*.json`, not directories themselves.
///
/// # Errors
///
/// When the directory cannot be listed.
pub fn list(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let file = directory.join(entry?.file_name());
        // A link to nowhere stays in the list: its absence is worth a finding.
        if has_resource_name(&file) && !file.is_dir() {
            files.insert(file);
        }
    }
    Ok(files)
}

fn has_resource_name(file: &Path) -> bool {
    let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known =
        file.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
    !hidden && known
}

pub(super) fn fingerprint(file: &Path) -> io::Result<Fingerprint> {
    Fingerprint::of(&fs::metadata(file)?)
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The fingerprint is taken before reading: a change in between makes it differ at the next look.
pub(super) fn read_bytes(file: &Path, limit: u64) -> io::Result<(Fingerprint, Vec<u8>)> {
    // What was a regular file a moment ago may be a pipe now: opening it must not wait for its writer.
    let open = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(file)?;
    let fingerprint = Fingerprint::of(&open.metadata()?)?;
    let mut bytes = Vec::new();
    let count = open.take(limit + 1).read_to_end(&mut bytes)?;
    if count as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes; split it")));
    }
    Ok((fingerprint, bytes))
}

fn read_text(file: &Path) -> io::Result<(Fingerprint, String)> {
    let (fingerprint, bytes) = read_bytes(file, bounds::RESOURCE_FILE)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        io::Error::other(format!("byte {} is not UTF-8 text", error.utf8_error().valid_up_to() + 1))
    })?;
    Ok((fingerprint, text))
}

/// The time of day.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("a.yaml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (sender, read) = mpsc::channel();
        thread::spawn(move || sender.send(read_bytes(&pipe, 1).unwrap_err().to_string()));
        let error = read.recv_timeout(Duration::from_secs(20)).expect("somebody waits for a writer");
        assert_eq!(error, "it is no regular file");
    }
}
