//! What is read of a directory, at the most.

/// Bytes of a file of resources; the reader of resources refuses more in any case.
pub const RESOURCE_FILE: u64 = 64 << 20;
/// Bytes of a file of certificates or keys: no chain of certificates comes near it.
pub const CERTIFICATE_FILE: u64 = 1 << 20;
