//! "Did you mean": the known word nearest to a misspelt one.

/// The remedy for a misspelt word, when some candidate is near enough to be meant.
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).filter(|near| *near != word).map(|near| format!("did you mean `{near}`?"))
}

/// Returns the candidate that `word` most likely stands for: equal but for case, else within two edits.
///
/// Of host names only what is before the labels that both end with counts as a word: `b.example` is not `a.example`.
/// Only the first thousand candidates are looked at: a mesh may have ten thousand names, and as many mistakes.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let candidates = candidates.into_iter().take(MOST_COMPARED);
    let ranked = candidates.filter_map(|candidate| Some((distance(word, candidate)?, candidate)));
    ranked.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

const MOST_COMPARED: usize = 1_000;

/// The edits between two words, if they are few.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    if word.len().abs_diff(candidate.len()) > MOST_EDITS {
        return None;
    }
    let (word, candidate) = without_common_labels(word.as_bytes(), candidate.as_bytes());
    let allowed = match word.len() {
        0..=2 => 0,
        3 | 4 => 1,
        _ => MOST_EDITS,
    };
    edits(word, candidate, allowed).filter(|_| !have_other_numbers(word, candidate))
}

const MOST_EDITS: usize = 2;

/// Two names without the labels that both end with.
fn without_common_labels<'n>(a: &'n [u8], b: &'n [u8]) -> (&'n [u8], &'n [u8]) {
    let pairs = a.iter().rev().zip(b.iter().rev());
    let same = pairs.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let ending = &a[a.len() - same..];
    let common = ending.iter().position(|byte| *byte == b'.').map_or(0, |dot| same - dot);
    (&a[..a.len() - common], &b[..b.len() - common])
}

/// Whether two words are one with different numbers behind it: who writes `v3` does not mean `v1`.
fn have_other_numbers(a: &[u8], b: &[u8]) -> bool {
    let digits = |word: &[u8]| word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (of_a, of_b) = (digits(a), digits(b));
    let ((a, number_a), (b, number_b)) = (a.split_at(a.len() - of_a), b.split_at(b.len() - of_b));
    of_a > 0 && of_b > 0 && number_a != number_b && a.eq_ignore_ascii_case(b)
}

/// Number of single-letter insertions, deletions, replacements and swaps of neighbours between two words, unless it is
/// more than allowed. What is equal at the beginning never costs an edit, so few paths are followed, however long the
/// words are.
fn edits(a: &[u8], b: &[u8], allowed: usize) -> Option<usize> {
    let same = a.iter().zip(b).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let (a, b) = (&a[same..], &b[same..]);
    if a.is_empty() || b.is_empty() {
        return Some(a.len().max(b.len())).filter(|edits| *edits <= allowed);
    }
    let left = allowed.checked_sub(1)?;
    let is_swapped =
        a.len() > 1 && b.len() > 1 && a[0].eq_ignore_ascii_case(&b[1]) && a[1].eq_ignore_ascii_case(&b[0]);
    let swapped = is_swapped.then(|| edits(&a[2..], &b[2..], left)).flatten();
    let others = [edits(&a[1..], &b[1..], left), edits(&a[1..], b, left), edits(a, &b[1..], left), swapped];
    others.into_iter().flatten().min().map(|rest| rest + 1)
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
    fn letters_are_swapped_left_out_and_added() {
        let edits = |a: &str, b: &str| edits(a.as_bytes(), b.as_bytes(), 2);
        for (a, b, wanted) in [
            ("abcdef", "ABCDEF", Some(0)),
            ("abcdef", "bacdef", Some(1)),
            ("abcdef", "badcef", Some(2)),
            ("abcdef", "acdef", Some(1)),
            ("abcdef", "xabcdefx", Some(2)),
            ("abcdef", "axcdxf", Some(2)),
            ("abcdef", "axcdxfx", None),
            ("abcdef", "bcdefa", Some(2)),
            ("", "ab", Some(2)),
            ("abc", "", None),
        ] {
            assert_eq!(edits(a, b), wanted, "{a} {b}");
            assert_eq!(edits(b, a), wanted, "{b} {a}");
        }
    }

    /// Comparing every letter with every letter would take hours here.
    #[test]
    fn long_words_cost_no_more_than_their_length() {
        let name = |number: usize| format!("{number:06}{}", "a".repeat(240));
        let names: Vec<String> = (0..1_000).map(name).collect();
        for number in 0..50 {
            let word = format!("zzz{number:03}{}", "a".repeat(240));
            assert_eq!(nearest(&word, names.iter().map(String::as_str)), None);
        }
    }

    #[test]
    fn another_number_is_another_name() {
        assert_eq!(nearest("web-2", ["web-1", "web-3"]), None);
        assert_eq!(nearest("wbe-1", ["web-1", "web-3"]), Some("web-1"));
        assert_eq!(nearest("http1Max", ["http2Max"]), Some("http2Max"));
    }
}
