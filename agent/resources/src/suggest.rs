//! "Did you mean": the known word nearest to a misspelt one.

/// The remedy for a misspelt word, when some candidate is near enough to be meant.
pub(crate) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).filter(|near| *near != word).map(|near| format!("did you mean `{near}`?"))
}

/// Returns the candidate that `word` most likely stands for: equal but for case, else within two edits.
pub(crate) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let allowed = if word.len() <= 4 { 1 } else { 2 };
    let lower = word.to_ascii_lowercase();
    let ranked =
        candidates.into_iter().map(|candidate| (edits(&lower, &candidate.to_ascii_lowercase()), candidate));
    ranked
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

// Longer words are no field names; the bound keeps the quadratic comparison cheap.
const LONGEST: usize = 64;

/// Number of single-letter insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(from != to);
            let cost = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && from == &b[j - 1] && &a[i - 1] == to;
            row.push(if swapped { cost.min(before[j - 1] + 1) } else { cost });
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_named_and_strangers_are_not() {
        let fields = ["hosts", "gateways", "http", "apiVersion"];
        assert_eq!(nearest("host", fields), Some("hosts"));
        assert_eq!(nearest("gatewayz", fields), Some("gateways"));
        assert_eq!(nearest("apiversion", fields), Some("apiVersion"));
        assert_eq!(nearest("htpt", fields), Some("http"));
        assert_eq!(nearest("tls", fields), None);
        assert_eq!(nearest(&"h".repeat(1000), fields), None);
    }
}
