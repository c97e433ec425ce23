//! Requests for the tests of routes.

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

/// GET with these fields.
pub(super) struct Fields<'f>(pub(super) &'f [(&'f str, &'f str)]);

impl RequestHead for Fields<'_> {
    fn method(&self) -> &str {
        "GET"
    }
    fn authority(&self) -> &str {
        "a"
    }
    fn path_and_query(&self) -> &str {
        "/"
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.0.iter();
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
    }
}
