//! What is written into the access log (Telemetry `accessLogging`).

mod filter;

pub use filter::{LogFacts, LogFilter, LogFilterError};

use crate::Direction;

/// Which calls the access log tells, by the side of the workload that they are served on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessLogging {
    /// Calls of the workload to others, and those that a gateway serves (`CLIENT`).
    pub client: Logged,
    /// Calls to the workload (`SERVER`).
    pub server: Logged,
}

/// Which calls are logged.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Logged {
    /// None.
    Nothing,
    /// All of them.
    #[default]
    Everything,
    /// Those that pass a filter.
    What(LogFilter),
}

impl AccessLogging {
    /// The same on both sides.
    pub fn both(logged: Logged) -> Self {
        Self { client: logged.clone(), server: logged }
    }

    /// What is logged of one side.
    pub fn of(&self, direction: Direction) -> &Logged {
        match direction {
            Direction::Outbound | Direction::Gateway => &self.client,
            Direction::Inbound => &self.server,
        }
    }
}

impl Logged {
    /// Whether a call is logged that has ended so.
    pub fn holds(&self, facts: &LogFacts<'_>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::What(filter) => filter.passes(facts),
        }
    }
}
