//! "Did you mean": the known word nearest to a misspelt one.

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

/// Number of single-letter insertions, deletions and replacements between two words (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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
        assert_eq!(nearest("tls", fields), None);
        assert_eq!(nearest(&"h".repeat(1000), fields), None);
    }
}
