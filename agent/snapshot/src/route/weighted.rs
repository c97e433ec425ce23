//! The destinations of a route and the choice among them.

use super::HeaderEdits;
use crate::ClusterId;

/// A cluster that a route names, whether or not it exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterTarget {
    /// `outbound|<port>|<subset>|<host>`, for logs and dumps.
    pub name: String,
    /// `None` when no service stands behind the name: requests are answered 503 NC.
    pub id: Option<ClusterId>,
    /// Share of the requests, relative to the sum of all; zero means never.
    pub weight: u32,
    /// New `Host` of what goes there, in place of the route's.
    pub authority: Option<String>,
    /// Changes to headers of what goes there; made before the route's, which has the last word.
    pub headers: Option<Box<HeaderEdits>>,
}

/// The destinations of a route, at least one of them with a positive weight.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WeightedClusters {
    targets: Vec<ClusterTarget>,
    total: u64,
}

impl WeightedClusters {
    /// Takes the destinations of a route. A single destination gets every request whatever its weight, as in Istio.
    ///
    /// Returns `None` when there is no destination, or several whose weights add up to zero.
    pub fn new(targets: Vec<ClusterTarget>) -> Option<Self> {
        let total = match targets.as_slice() {
            [] => 0,
            [_] => 1,
            several => several.iter().map(|target| u64::from(target.weight)).sum(),
        };
        (total > 0).then_some(Self { targets, total })
    }

    /// The destinations, in the order written.
    pub fn targets(&self) -> &[ClusterTarget] {
        &self.targets
    }

    /// Chooses a destination; `draw` is a uniformly random number.
    pub fn pick(&self, draw: u64) -> &ClusterTarget {
        let mut left = draw % self.total;
        let chosen = self.targets.iter().find(|target| match left.checked_sub(u64::from(target.weight)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        // A single destination may have weight zero; otherwise the weights add up to `total` and one is found.
        chosen.unwrap_or(&self.targets[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, weight: u32) -> ClusterTarget {
        ClusterTarget { name: name.into(), id: None, weight, authority: None, headers: None }
    }

    #[test]
    fn weights_divide_the_draws() {
        let clusters = WeightedClusters::new(vec![target("a", 1), target("off", 0), target("b", 3)]).unwrap();
        let names: Vec<_> = (0..5).map(|draw| clusters.pick(draw).name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b", "b", "a"]);
    }

    #[test]
    fn one_destination_needs_no_weight_and_several_need_a_positive_sum() {
        assert_eq!(WeightedClusters::new(vec![target("a", 0)]).unwrap().pick(7).name, "a");
        assert!(WeightedClusters::new(vec![target("a", 0), target("b", 0)]).is_none());
        assert!(WeightedClusters::new(vec![]).is_none());
    }
}
