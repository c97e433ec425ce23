//! Reads the certificates and keys that resources name by path, again when they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::Path,
};

use resources::{CertificateFiles, ResourceSet};

use super::scan::{Seen, fingerprint, read_bytes};

use crate::bounds;

/// Tells which files are wanted, given the resources.
pub(super) type Wanted = Box<dyn Fn(&ResourceSet) -> BTreeSet<String> + Send>;

/// The files wanted and what they held at the last look.
pub(super) struct Certificates {
    choose: Wanted,
    wanted: BTreeSet<String>,
    seen: BTreeMap<String, Seen>,
    files: CertificateFiles,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Certificates {
    pub(super) fn new(choose: Wanted) -> Self {
        let (wanted, seen, files) = Default::default();
        Self { choose, wanted, seen, files }
    }

    /// Looks after the files that these resources need from now on and forgets all others.
    pub(super) fn want_for(&mut self, resources: &ResourceSet) {
        self.wanted = (self.choose)(resources);
        self.seen.retain(|path, _| self.wanted.contains(path));
        self.files.retain(&self.wanted);
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
            Ok(_) => read_bytes(file, bounds::CERTIFICATE_FILE),
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
