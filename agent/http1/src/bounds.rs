//! What a peer may make of a message, at the most.

/// Bytes of a head, unless [`Limits`](crate::Limits) say otherwise (Envoy's `max_request_headers_kb`).
pub const HEAD_BYTES: usize = 60 * 1024;
/// Fields of a head, unless [`Limits`](crate::Limits) say otherwise (Envoy's `max_headers_count`). For so many there is
/// room without an allocation.
pub const HEAD_FIELDS: usize = 100;
/// Other fields that `connection` may name: each is looked for among all.
pub const CONNECTION_NAMES: usize = 16;
/// Bytes of chunk extensions a body may have beyond its own size. Nobody reads extensions, so a peer could send nothing
/// else for ever.
pub const EXTENSION_EXCESS: u64 = 16 * 1024;
/// Bytes of trailers, which nobody reads either.
pub const TRAILER_BYTES: u32 = 16 * 1024;
/// Fields of trailers.
pub const TRAILERS: u8 = 100;
