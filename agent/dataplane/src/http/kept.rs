//! What has been sent of a request's body, kept for another try.

use ::http::HeaderMap;

/// Largest body that is kept, Envoy's default (`per_connection_buffer_limit_bytes`).
const MAX_KEPT: usize = 1024 * 1024;

/// The bytes that have left, in the framing they left in. Nothing is kept unless somebody asked for it.
#[derive(Default)]
pub(super) struct Kept {
    bytes: Option<Vec<u8>>,
    trailers: Option<HeaderMap>,
    any: bool,
}

impl Kept {
    /// Keeps what is sent from now on.
    pub(super) fn begin(&mut self) {
        self.bytes = Some(Vec::new());
    }

    /// Takes note of bytes that have left.
    pub(super) fn note(&mut self, sent: &[u8]) {
        self.any |= !sent.is_empty();
        if let Some(bytes) = &mut self.bytes {
            if bytes.len() + sent.len() > MAX_KEPT {
                self.bytes = None;
            } else {
                bytes.extend_from_slice(sent);
            }
        }
    }

    /// Takes note of trailers that have left.
    pub(super) fn note_trailers(&mut self, trailers: &HeaderMap) {
        self.any = true;
        if self.bytes.is_some() {
            self.trailers = Some(trailers.clone());
        }
    }

    /// Whether everything that has left can be sent again.
    pub(super) fn is_whole(&self) -> bool {
        !self.any || self.bytes.is_some()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }
}
