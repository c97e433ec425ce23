//! Requests as routes see them.

use std::cell::OnceCell;

use snapshot::RequestHead;

use super::added::{Added, FORWARDED_PROTO, TOLD_OF_CLIENTS};

/// A request in which this proxy's word about the client stands in the place of the client's own, so that no route can
/// be had by claiming another's certificate, address or scheme.
pub(in crate::http) struct Seen<'r, H> {
    head: &'r H,
    added: &'r Added,
    /// What this proxy says, put together when a route asks for it.
    told: [OnceCell<Vec<u8>>; TOLD_OF_CLIENTS.len()],
}

impl<'r, H: RequestHead> Seen<'r, H> {
    pub(in crate::http) fn new(head: &'r H, added: &'r Added) -> Self {
        Self { head, added, told: Default::default() }
    }

    /// The value of a field that is for this proxy to say: `None` when the client's counts.
    fn own(&self, name: &str) -> Option<Option<&[u8]>> {
        let field = TOLD_OF_CLIENTS.iter().position(|field| name.eq_ignore_ascii_case(field))?;
        let (name, told) = (TOLD_OF_CLIENTS[field], &self.told[field]);
        if !self.added.says(name, self.head) {
            return None;
        }
        // The one that many routes ask for.
        if name == FORWARDED_PROTO {
            return Some(Some(self.added.scheme().as_bytes()));
        }
        let value = told.get_or_init(|| {
            let mut value = Vec::new();
            self.added.record_field(name, self.head, &mut value);
            value
        });
        Some(Some(&value[..]).filter(|value| !value.is_empty()))
    }
}

impl<H: RequestHead> RequestHead for Seen<'_, H> {
    fn method(&self) -> &str {
        self.head.method()
    }

    fn authority(&self) -> &str {
        self.head.authority()
    }

    fn path_and_query(&self) -> &str {
        self.head.path_and_query()
    }

    fn path(&self) -> &str {
        self.head.path()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.own(name).unwrap_or_else(|| self.head.header(name))
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.head.visit_headers(&mut |name, value| {
            if self.own(name).is_none() {
                visit(name, value);
            }
        });
        for name in TOLD_OF_CLIENTS {
            if let Some(Some(value)) = self.own(name) {
                visit(name, value);
            }
        }
    }

    fn lines(&self, name: &str) -> usize {
        match self.own(name) {
            Some(value) => usize::from(value.is_some()),
            None => self.head.lines(name),
        }
    }
}
