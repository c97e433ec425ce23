//! What the fuzz targets call: the readers of a connection's first bytes, with what must hold of them.

use crate::{inspect, proxy_protocol, tls::Hello};

/// Reads bytes as every reader of a connection's beginning does.
///
/// # Panics
/// A reader panics, or decides otherwise when more bytes arrive: what was decided has been acted on by then.
pub fn read_opening(bytes: &[u8]) {
    // Halves, and a piece that is cut short: what a network may deliver.
    for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let part = &bytes[..end];
        if let Some(decided) = inspect::classify(part) {
            assert_eq!(Some(decided), inspect::classify(bytes), "the protocol");
        }
        match Hello::read(part) {
            Ok(None) => {}
            decided => assert_eq!(decided, Hello::read(bytes), "the client hello"),
        }
        match proxy_protocol::parse(part) {
            Ok(None) => {}
            decided => assert_eq!(decided, proxy_protocol::parse(bytes), "the PROXY header"),
        }
    }
    if let Ok(Some((_, length))) = proxy_protocol::parse(bytes) {
        assert!(length <= bytes.len());
    }
}
