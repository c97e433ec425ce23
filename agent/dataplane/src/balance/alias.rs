//! Draws by weight in constant time, however many endpoints there are and however their weights differ (Vose's alias
//! method).

/// The weights of a group of endpoints.
pub(super) struct AliasTable(Vec<Column>);

/// What one of as many equal parts of the whole is made of.
#[derive(Clone, Copy)]
struct Column {
    weight: f64,
    /// Up to here, 0–1, it is its own.
    own: f64,
    /// And the rest is this one's.
    other: u32,
}

impl AliasTable {
    pub(super) fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<f64> = weights.map(|weight| f64::from(weight.max(1))).collect();
        let mean = weights.iter().sum::<f64>() / weights.len().max(1) as f64;
        let mut columns: Vec<Column> = (0..)
            .zip(&weights)
            .map(|(position, weight)| Column { weight: *weight, own: weight / mean, other: position })
            .collect();
        let (mut light, mut heavy): (Vec<u32>, Vec<u32>) =
            (0..).take(columns.len()).partition(|position| columns[*position as usize].own < 1.0);
        while let (Some(small), Some(large)) = (light.pop(), heavy.pop()) {
            let missing = 1.0 - columns[small as usize].own;
            columns[small as usize].other = large;
            let left = &mut columns[large as usize].own;
            *left -= missing;
            if *left < 1.0 { light.push(large) } else { heavy.push(large) }
        }
        // What is left differs from the mean by rounding only.
        light.into_iter().chain(heavy).for_each(|rest| columns[rest as usize].own = 1.0);
        Self(columns)
    }

    /// A position by its weight; `draw` is a uniformly random number.
    pub(super) fn draw(&self, draw: u64) -> usize {
        let position = (draw >> 32) as usize % self.0.len().max(1);
        let Some(column) = self.0.get(position) else { return 0 };
        let is_own = f64::from((draw & 0xffff_ffff) as u32) < column.own * f64::from(u32::MAX);
        if is_own { position } else { column.other as usize }
    }

    /// The weight of a position.
    pub(super) fn weight(&self, position: usize) -> f64 {
        self.0.get(position).map_or(1.0, |column| column.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::mix, *};

    fn hits(weights: &[u32]) -> Vec<f64> {
        let table = AliasTable::new(weights.iter().copied());
        let mut hits = vec![0.0; weights.len()];
        (0..100_000).for_each(|step| hits[table.draw(mix(step))] += 1.0);
        hits
    }

    #[test]
    fn each_is_drawn_by_its_weight() {
        let mut skewed = vec![1; 1000];
        skewed[7] = 1000;
        for weights in [vec![1], vec![1, 1], vec![1, 3], vec![5, 1, 1, 3], skewed] {
            let sum = f64::from(weights.iter().sum::<u32>());
            for (weight, hits) in weights.iter().zip(hits(&weights)) {
                let wanted = 100_000.0 * f64::from(*weight) / sum;
                assert!((hits - wanted).abs() < 30.0 + wanted * 0.03, "{weight}: {hits}, not {wanted}");
            }
        }
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        assert_eq!(AliasTable::new([].into_iter()).draw(5), 0);
    }
}
