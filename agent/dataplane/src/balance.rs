//! Picks an endpoint of a cluster: power of two choices on active requests (Istio's `LEAST_REQUEST`, its default).

/// Returns the index of the endpoint to use, or `None` when there is none.
///
/// `active` tells how many requests an endpoint is serving for this worker; `draw` is a uniformly random number.
pub(crate) fn pick(endpoints: usize, active: impl Fn(usize) -> u32, draw: u64) -> Option<usize> {
    match endpoints {
        0 => None,
        1 => Some(0),
        n => {
            let first = (draw >> 32) as usize % n;
            // Drawn among the others, so that two different endpoints are compared.
            let second = (first + 1 + (draw & 0xffff_ffff) as usize % (n - 1)) % n;
            Some(if active(second) < active(first) { second } else { first })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_endpoint_is_picked_from_none_and_the_only_one_from_one() {
        assert_eq!(pick(0, |_| 0, 99), None);
        assert_eq!(pick(1, |_| 1000, 99), Some(0));
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        for draw in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            assert_eq!(pick(2, |endpoint| [7, 3][endpoint], draw), Some(1));
        }
    }

    #[test]
    fn idle_endpoints_share_the_load() {
        let mut hits = [0_u32; 5];
        for step in 0..5000_u64 {
            let draw = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hits[pick(5, |_| 0, draw).unwrap()] += 1;
        }
        assert!(hits.iter().all(|n| (800..1200).contains(n)), "{hits:?}");
    }
}
