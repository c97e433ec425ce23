//! Names that are asked for in vain, for those who ask what is wrong.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Names, schedule::News};

/// A name that could not be resolved the last time it was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnresolvedName {
    /// As it is written.
    pub name: String,
    /// Why not.
    pub error: String,
    /// Whether it has addresses from before, which stay.
    pub has_addresses: bool,
}

/// Such names, shared by the thread that resolves them and whoever asks. Only names that are wanted are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unresolved(Arc<Mutex<BTreeMap<Box<str>, UnresolvedName>>>);

impl Unresolved {
    /// Takes in how a look-up has ended; `None` is well.
    pub(super) fn note(&self, name: &str, failed: Option<&str>, news: News) {
        let mut names = self.names();
        match failed {
            None => _ = names.remove(name),
            Some(error) => {
                let (error, has_addresses) = (error.to_owned(), news.has_addresses);
                names.insert(name.into(), UnresolvedName { name: name.to_owned(), error, has_addresses });
            }
        }
    }

    /// Forgets all names but these.
    pub(super) fn retain(&self, wanted: &Names) {
        self.names().retain(|name, _| wanted.contains_key(name));
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<UnresolvedName> {
        self.names().values().cloned().collect()
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<Box<str>, UnresolvedName>> {
        // Each change is one operation on the map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
