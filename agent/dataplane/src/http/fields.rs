//! Fields of HTTP/2 that are looked up in every message: their names are read once.

use ::http::{HeaderMap, HeaderName, header::CONTENT_LENGTH};

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What `content-length` says. The codec has checked the number.
pub(super) fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The status of a gRPC call, as the head of an answer or its trailers tell it.
pub(super) fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    fields.get(&GRPC_STATUS)?.to_str().ok()?.parse().ok()
}
