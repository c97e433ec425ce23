//! A request for the tests of routes.

use crate::RequestHead;

/// GET of an authority and a path, without any fields.
pub(super) struct Get(pub(super) &'static str, pub(super) &'static str);

impl RequestHead for Get {
    fn method(&self) -> &str {
        "GET"
    }
    fn authority(&self) -> &str {
        self.0
    }
    fn path_and_query(&self) -> &str {
        self.1
    }
    fn header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn visit_headers(&self, _: &mut dyn FnMut(&str, &[u8])) {}
}
