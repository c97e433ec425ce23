//! Reads the certificates and keys that resources name by path, again when they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::Path,
};

use resources::CertificateFiles;

use super::scan::{Seen, fingerprint, read_bytes};

/// The files wanted and what they held at the last look.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    wanted: BTreeSet<String>,
    seen: BTreeMap<String, Seen>,
    files: CertificateFiles,
}

/// Largest file that is read, in bytes: no chain of certificates comes near it.
const MAX_BYTES: u64 = 1 << 20;

impl Certificates {
    /// Looks after these files from now on and forgets all others.
    pub(super) fn want(&mut self, paths: &BTreeSet<String>) {
        self.wanted.clone_from(paths);
        self.seen.retain(|path, _| paths.contains(path));
        self.files.retain(paths);
    }

    /// Directories to watch. A mounted Secret changes by a rename beside its files.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.wanted.iter().filter_map(|path| Path::new(path).parent())
    }

    pub(super) fn files(&self) -> &CertificateFiles {
        &self.files
    }

    /// Reads what changed or was touched; true when something differs.
    pub(super) fn scan(&mut self, touched: &BTreeSet<OsString>) -> bool {
        let mut changed = false;
        for path in self.wanted.clone() {
            changed |= self.scan_file(&path, touched);
        }
        changed
    }

    fn scan_file(&mut self, path: &str, touched: &BTreeSet<OsString>) -> bool {
        let file = Path::new(path);
        let is_touched = file.file_name().is_some_and(|name| touched.contains(name));
        let read = match fingerprint(file) {
            Ok(now) if !is_touched && self.seen.get(path) == Some(&Seen::Read(now)) => return false,
            Ok(_) => read_bytes(file, MAX_BYTES),
            Err(error) => Err(error),
        };
        let (seen, contents) = match read {
            Ok((fingerprint, bytes)) => (Seen::Read(fingerprint), Ok(bytes)),
            Err(error) => (Seen::Unreadable(error.to_string()), Err(error.to_string())),
        };
        let differs = self.seen.get(path) != Some(&seen) || is_touched;
        self.seen.insert(path.to_owned(), seen);
        self.files.insert(path, contents);
        differs
    }
}
