//! Many expressions tried on a text at once.

use std::fmt;

use regex_automata::{
    Anchored, Input, MatchKind, PatternSet,
    hybrid::dfa::{Cache, Config, DFA},
    nfa::thompson::{self, WhichCaptures},
    util::pool::Pool,
};

use super::Pattern;

/// Expressions as one automaton whose states are made when they are first needed.
///
/// What each thread has made of it is bounded; a text that would need more is left to trying one by one, so that
/// nobody who chooses the texts makes them dearer than that by more than a constant.
pub(super) struct CombinedPatterns {
    automaton: DFA,
    scratch: Pool<Scratch, NewScratch>,
}

struct Scratch {
    cache: Cache,
    matched: PatternSet,
}

type NewScratch = Box<dyn Fn() -> Scratch + Send + Sync>;

impl CombinedPatterns {
    /// Puts expressions together; `None` when that would take too much memory.
    pub(super) fn new<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Option<Self> {
        let expressions: Option<Vec<_>> = patterns.map(Pattern::syntax).collect();
        let expressions = expressions?;
        let config = thompson::Config::new()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(LARGEST));
        let nfa = thompson::Compiler::new().configure(config).build_many_from_hir(&expressions).ok()?;
        let config = Config::new()
            .match_kind(MatchKind::All)
            .cache_capacity(LARGEST)
            // Once full, what is there serves on and nothing is added.
            .minimum_cache_clear_count(Some(0));
        let automaton = DFA::builder().configure(config).build_from_nfa(nfa).ok()?;
        let made = automaton.clone();
        let scratch: NewScratch = Box::new(move || Scratch {
            cache: made.create_cache(),
            matched: PatternSet::new(made.pattern_len()),
        });
        Some(Self { automaton, scratch: Pool::new(scratch) })
    }

    /// The first expression that matches the whole text and that `takes` takes; `Err` when they must be tried one by
    /// one.
    pub(super) fn first(
        &self,
        text: &str,
        mut takes: impl FnMut(usize) -> bool,
    ) -> Result<Option<usize>, TooMuch> {
        let scratch = &mut *self.scratch.get();
        scratch.matched.clear();
        let input = Input::new(text).anchored(Anchored::Yes);
        let tried =
            self.automaton.try_which_overlapping_matches(&mut scratch.cache, &input, &mut scratch.matched);
        tried.map_err(|_| TooMuch)?;
        Ok(scratch.matched.iter().map(|pattern| pattern.as_usize()).find(|at| takes(*at)))
    }
}

/// The states that a text needs have no room.
#[derive(Debug)]
pub(super) struct TooMuch;

/// Most memory for the automaton, and for the states each thread makes of it, in bytes.
const LARGEST: usize = 4 << 20;

impl fmt::Debug for CombinedPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CombinedPatterns({} expressions)", self.automaton.pattern_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined_patterns(sources: &[&str]) -> (Vec<Pattern>, CombinedPatterns) {
        let patterns: Vec<_> = sources.iter().map(|source| Pattern::new(source).unwrap()).collect();
        let combined_patterns = CombinedPatterns::new(patterns.iter()).unwrap();
        (patterns, combined_patterns)
    }

    #[test]
    fn what_is_found_at_once_is_what_is_found_one_by_one() {
        let sources = [
            "/a[0-9]+", "/a.*", "/a|/b", r"/\d\w", "/é.?", "(?i)/Q", "/[éè]", "", ".*z", "(?s).*", "/x{2,3}$",
        ];
        let (patterns, combined_patterns) = combined_patterns(&sources);
        for text in
            ["/a1", "/a1/", "/b", "/1a", "/é", "/éé", "/q", "/Q", "/è", "", "\n", "/a\n", "a/z", "/xx", "/x"]
        {
            let each: Vec<usize> =
                (0..patterns.len()).filter(|at| patterns[*at].matches(text.as_bytes())).collect();
            let mut seen = Vec::new();
            let found = combined_patterns.first(text, |at| {
                seen.push(at);
                false
            });
            assert_eq!((found.unwrap(), seen), (None, each.clone()), "{text:?}");
            assert_eq!(combined_patterns.first(text, |_| true).unwrap(), each.first().copied(), "{text:?}");
        }
    }

    #[test]
    fn a_text_that_would_take_too_much_memory_is_left_to_trying_each() {
        // Which of the last bytes were `a`: a state for every way they could have been.
        let sources: Vec<String> = (0..200).map(|index| format!("(?s).*a.{{{index}}}")).collect();
        let (_, combined_patterns) =
            combined_patterns(&sources.iter().map(String::as_str).collect::<Vec<_>>());
        let mut random = 1_u32;
        let mut letter = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { 'a' } else { 'b' }
        };
        let text: String = (0..100_000).map(|_| letter()).collect();
        assert!(combined_patterns.first(&text, |_| true).is_err());
        // What fits serves on.
        assert_eq!(combined_patterns.first("a", |_| true).unwrap(), Some(0));
    }
}
