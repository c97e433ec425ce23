//! HTTP/1 codec: bytes to heads and framing and back, without I/O and without allocation.
#![forbid(unsafe_code)]
