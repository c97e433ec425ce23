//! `/memory`: what the kernel says of this process, under Envoy's names.

use std::fs;

use serde_json::{Value, json};

/// Sizes in bytes, as text. The kernel knows nothing of free lists and caches: what is not given back counts as
/// allocated.
pub(super) fn sizes() -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = |name| bytes(&status, name).to_string();
    json!({
        "allocated": size("RssAnon:"),
        "heap_size": size("VmData:"),
        "pageheap_unmapped": "0",
        "pageheap_free": "0",
        "total_thread_cache": "0",
        "total_physical_bytes": size("VmRSS:"),
    })
}

/// A line such as `VmRSS:     1234 kB`; 0 when it is missing.
fn bytes(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_this_process() {
        assert_eq!((bytes("A:\t 1 kB\nVmRSS:\t    12 kB\n", "VmRSS:"), bytes("", "VmRSS:")), (12_288, 0));
        assert_ne!(sizes()["total_physical_bytes"], "0");
    }
}
