//! Faults that a route injects (`fault`): dice are thrown for each request, for delay and abort independently. `draw` is
//! a uniformly random number.

use std::time::Duration;

use snapshot::{AbortStatus, Fault};

/// How long the request waits before anything else, if it does.
pub(super) fn delay(fault: &Fault, draw: u64) -> Option<Duration> {
    fault.delay.filter(|(_, share)| share.takes(draw)).map(|(delay, _)| delay)
}

/// What it is answered instead of by an endpoint, if it is.
pub(super) fn abort(fault: &Fault, draw: u64) -> Option<AbortStatus> {
    fault.abort.filter(|(_, share)| share.takes(draw)).map(|(status, _)| status)
}
