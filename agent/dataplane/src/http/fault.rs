//! Faults that a route injects (`fault`): dice are thrown for each request, for delay and abort independently.

use std::time::Duration;

use snapshot::{AbortStatus, Fault};

/// What befalls one request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Injected {
    /// Waits so long before anything else.
    pub(super) delay: Option<Duration>,
    /// Is answered so instead of by an endpoint.
    pub(super) abort: Option<AbortStatus>,
}

impl Injected {
    /// Throws the dice; `draws` are two uniformly random numbers.
    pub(super) fn draw(fault: &Fault, draws: [u64; 2]) -> Self {
        let delay = fault.delay.filter(|(_, share)| share.takes(draws[0])).map(|(delay, _)| delay);
        let abort = fault.abort.filter(|(_, share)| share.takes(draws[1])).map(|(status, _)| status);
        Self { delay, abort }
    }
}

#[cfg(test)]
mod tests {
    use snapshot::Share;

    use super::*;

    #[test]
    fn delay_and_abort_are_drawn_independently() {
        let half = Share::of_percent(50.0);
        let fault = Fault {
            delay: Some((Duration::from_secs(1), half)),
            abort: Some((AbortStatus::Http(500), half)),
        };
        let (hit, missed) = (0, 999_999);
        let injected = |draws| {
            let Injected { delay, abort } = Injected::draw(&fault, draws);
            (delay.is_some(), abort.is_some())
        };
        assert_eq!(injected([hit, hit]), (true, true));
        assert_eq!(injected([hit, missed]), (true, false));
        assert_eq!(injected([missed, hit]), (false, true));
        assert_eq!(injected([missed, missed]), (false, false));
    }
}
