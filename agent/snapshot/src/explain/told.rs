//! A request with the proxy's word about its scheme, as routes see it.

use crate::RequestHead;

/// A request in which `x-forwarded-proto` is the proxy's, where it is for the proxy to say.
pub(super) struct Told<'r, R> {
    request: &'r R,
    /// `None` when the client's word counts.
    scheme: Option<&'static str>,
}

const FORWARDED_PROTO: &str = "x-forwarded-proto";

impl<'r, R: RequestHead> Told<'r, R> {
    /// `is_believed` says whether what the client has written counts; what it has not is the proxy's in any case.
    pub(super) fn new(request: &'r R, scheme: &'static str, is_believed: bool) -> Self {
        let is_own = !is_believed || request.header(FORWARDED_PROTO).is_none();
        Self { request, scheme: is_own.then_some(scheme) }
    }

    fn own(&self, name: &str) -> Option<&'static str> {
        self.scheme.filter(|_| name.eq_ignore_ascii_case(FORWARDED_PROTO))
    }
}

impl<R: RequestHead> RequestHead for Told<'_, R> {
    fn method(&self) -> &str {
        self.request.method()
    }

    fn authority(&self) -> &str {
        self.request.authority()
    }

    fn path_and_query(&self) -> &str {
        self.request.path_and_query()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.own(name).map(str::as_bytes).or_else(|| self.request.header(name))
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.request.visit_headers(&mut |name, value| {
            if self.own(name).is_none() {
                visit(name, value);
            }
        });
        if let Some(scheme) = self.scheme {
            visit(FORWARDED_PROTO, scheme.as_bytes());
        }
    }
}
