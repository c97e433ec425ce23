//! Session tickets of a context, which can be made void.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{crypto::aws_lc_rs::Ticketer, server::ProducesTickets};

/// Seals tickets with keys that rustls rotates, until all that were given are to be forgotten.
#[derive(Debug)]
pub(super) struct Tickets(RwLock<Arc<dyn ProducesTickets>>);

impl Tickets {
    /// # Errors
    /// The system has no random bytes.
    pub(super) fn new() -> Result<Self, rustls::Error> {
        Ok(Self(RwLock::new(Ticketer::new()?)))
    }

    /// Who comes with a ticket given so far performs a full handshake.
    pub(super) fn forget(&self) {
        // Without random bytes there is no handshake at all.
        if let Ok(new) = Ticketer::new() {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
    }

    fn current(&self) -> Arc<dyn ProducesTickets> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.current().enabled()
    }

    fn lifetime(&self) -> u32 {
        self.current().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.current().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.current().decrypt(cipher)
    }
}
