//! The one view of a request that routing and header code see, whichever codec read it.

/// Head of an HTTP request, borrowed from the codec that parsed it.
///
/// HTTP/1 implements it over the received bytes, HTTP/2 over those of the h2 crate, so that no routing or header feature is
/// written twice.
pub trait RequestHead {
    /// Method token, case as received.
    fn method(&self) -> &str;

    /// `:authority`, the authority of an absolute-form target, or `Host`, with the port as received; empty when the
    /// request names none.
    fn authority(&self) -> &str;

    /// Path and query as they go upstream, starting with `/` (or `*` for OPTIONS).
    fn path_and_query(&self) -> &str;

    /// First value of a header; the name is compared without case. Cookies that HTTP/2 brings in several lines are one
    /// (RFC 9113 §8.2.3).
    fn header(&self, name: &str) -> Option<&[u8]>;

    /// Calls `visit` for every header line in the order received, name as received.
    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8]));

    /// How many lines a header has; the name is compared without case.
    fn lines(&self, name: &str) -> usize {
        let mut lines = 0;
        self.visit_headers(&mut |line, _| lines += usize::from(line.eq_ignore_ascii_case(name)));
        lines
    }

    /// Path without the query, which is what routes match.
    fn path(&self) -> &str {
        let whole = self.path_and_query();
        whole.split_once('?').map_or(whole, |(path, _)| path)
    }

    /// The query without its `?`; empty when there is none.
    fn query(&self) -> &str {
        self.path_and_query().split_once('?').map_or("", |(_, query)| query)
    }
}

/// Whether the client speaks gRPC, by its content type.
pub fn is_grpc(request: &impl RequestHead) -> bool {
    // gRPC has no other method; most requests are told apart here.
    request.method() == "POST"
        && request.header("content-type").is_some_and(|kind| match kind.strip_prefix(b"application/grpc") {
            Some(rest) => rest.first().is_none_or(|next| matches!(next, b'+' | b';')),
            None => false,
        })
}
