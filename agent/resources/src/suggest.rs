//! "Did you mean": the known word nearest to a misspelt one.

/// The remedy for a misspelt word, when some candidate is near enough to be meant.
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).filter(|near| *near != word).map(|near| format!("did you mean `{near}`?"))
}

/// Returns the candidate that `word` most likely stands for: equal but for case, else within two edits.
///
/// Of host names only what is before the labels that both end with counts as a word: `b.example` is not `a.example`.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let ranked =
        candidates.into_iter().filter_map(|candidate| Some((distance(&lower, candidate)?, candidate)));
    ranked.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// The edits between two words, if they are few.
fn distance(lower: &str, candidate: &str) -> Option<usize> {
    if lower.len().abs_diff(candidate.len()) > MOST_EDITS {
        return None;
    }
    let candidate = candidate.to_ascii_lowercase();
    let (word, candidate) = without_common_labels(lower, &candidate);
    let allowed = match word.len() {
        0..=2 => 0,
        3 | 4 => 1,
        _ => MOST_EDITS,
    };
    Some(edits(word, candidate)).filter(|edits| *edits <= allowed && !have_other_numbers(word, candidate))
}

/// Whether two words are one with different numbers behind it: who writes `v3` does not mean `v1`.
fn have_other_numbers(a: &str, b: &str) -> bool {
    let without = |word: &str| word.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let (end_a, end_b) = (without(a), without(b));
    a != b && end_a < a.len() && end_b < b.len() && a[..end_a] == b[..end_b]
}

/// Two names without the labels that both end with.
fn without_common_labels<'n>(a: &'n str, b: &'n str) -> (&'n str, &'n str) {
    let same = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    let ending = &a.as_bytes()[a.len() - same..];
    let common = ending.iter().position(|byte| *byte == b'.').map_or(0, |dot| same - dot);
    (&a[..a.len() - common], &b[..b.len() - common])
}

const MOST_EDITS: usize = 2;

// No name is longer than a host may be; the bound keeps the quadratic comparison cheap.
const LONGEST: usize = 253;

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

    #[test]
    fn hosts_are_compared_without_the_labels_they_share() {
        let hosts = ["a.example", "shop.example", "reviews.prod.svc.cluster.local"];
        assert_eq!(nearest("b.example", hosts), None);
        assert_eq!(nearest("shop.exampl", hosts), Some("shop.example"));
        assert_eq!(nearest("shpo.example", hosts), Some("shop.example"));
        assert_eq!(nearest("reviws.prod.svc.cluster.local", hosts), Some("reviews.prod.svc.cluster.local"));
        assert_eq!(nearest("votes.prod.svc.cluster.local", hosts), None);
        assert_eq!(nearest("é.example", hosts), None);
    }

    #[test]
    fn another_number_is_another_name() {
        assert_eq!(nearest("web-2", ["web-1", "web-3"]), None);
        assert_eq!(nearest("wbe-1", ["web-1", "web-3"]), Some("web-1"));
        assert_eq!(nearest("http1Max", ["http2Max"]), Some("http2Max"));
    }
}
