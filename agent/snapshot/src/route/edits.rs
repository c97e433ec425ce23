//! Changes to headers.

use crate::format::Format;

/// Changes to the headers of requests and answers (VirtualService `headers`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HeaderEdits {
    /// On the request before it goes upstream.
    pub request: Edits,
    /// On the answer before it goes downstream.
    pub response: Edits,
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// Changes to one head: what is removed goes first, then `set` replaces, then `add` appends lines. Names are in lower
/// case; each list is sorted by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Edits {
    /// Names whose lines all go.
    pub remove: Vec<String>,
    /// Lines that replace all others of that name.
    pub set: Vec<(String, Format)>,
    /// Lines added to those there are.
    pub add: Vec<(String, Format)>,
}

impl Edits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
