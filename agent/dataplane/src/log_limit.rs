//! How often a worker says what goes wrong with peers: a few times at once, then twice a second, however many there
//! are.

use std::cell::Cell;

use crate::{bounds, connection::Connection, upstream::Lease};

/// What may still be said, and how often nothing was.
pub(crate) struct LogLimit {
    left: Cell<u32>,
    unsaid: Cell<u64>,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self { left: Cell::new(bounds::LOG_BURST), unsaid: Cell::new(0) }
    }
}

impl LogLimit {
    /// Whether something may be said now, and then how much was left unsaid since the last time.
    pub(crate) fn admit(&self) -> Option<u64> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Some(self.unsaid.take())
            }
            None => {
                self.unsaid.set(self.unsaid.get() + 1);
                None
            }
        }
    }

    /// Half a second has gone by.
    pub(crate) fn tick(&self) {
        self.left.set((self.left.get() + 1).min(bounds::LOG_BURST));
    }
}

/// Warns of what goes wrong between a cluster and its endpoint, if something may be said now.
pub(crate) fn warn(connection: &Connection, lease: &Lease, what: &str) {
    let Some(unsaid) = connection.worker().log_limit.admit() else { return };
    let policy = lease.policy();
    tracing::warn!(
        cluster = &*policy.name,
        destination_rule = policy.destination_rule.as_deref(),
        upstream = %lease.address,
        server_name = connection.server_name(),
        unsaid = (unsaid > 0).then_some(unsaid),
        "{what}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_said_at_once_and_the_rest_is_counted() {
        let log_limit = LogLimit::default();
        let said = (0..100).filter_map(|_| log_limit.admit()).collect::<Vec<_>>();
        assert_eq!(said, [0; 10]);
        log_limit.tick();
        assert_eq!((log_limit.admit(), log_limit.admit()), (Some(90), None));
        (0..100).for_each(|_| log_limit.tick());
        assert_eq!((0..100).filter_map(|_| log_limit.admit()).count(), 10);
    }
}
