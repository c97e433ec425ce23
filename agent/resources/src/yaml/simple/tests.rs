use proptest::prelude::*;

use super::*;
use crate::yaml::all_documents;

/// What simple documents are read as, each with the rest of the text behind it.
fn simple(text: &str) -> Vec<String> {
    let mut simple = Simple::new(text);
    let mut read = Vec::new();
    loop {
        match simple.next_document() {
            Next::Document(node) => read.push(format!("{node:?}")),
            Next::End => {
                read.push("the end".to_owned());
                return read;
            }
            Next::NotSimple => return read,
        }
    }
}

/// The documents as the YAML crate reads them.
fn whole(text: &str) -> Vec<String> {
    let of = all_documents(text, 0, 0).map(|document| match document {
        Ok(node) => format!("{node:?}"),
        Err(error) => format!("{error:?}"),
    });
    of.chain(["the end".to_owned()]).collect()
}

/// Asserts that what is simple in a text is read the same both ways; returns how many documents were.
fn assert_same(text: &str) -> usize {
    let (simple, whole) = (simple(text), whole(text));
    assert!(simple.len() <= whole.len(), "{text:?}\n{simple:#?}\n{whole:#?}");
    for (simple, whole) in simple.iter().zip(&whole) {
        assert_eq!(simple, whole, "{text:?}");
    }
    simple.len()
}

#[test]
fn usual_resources_are_simple() {
    for text in [
        "a: 1\nb:\n  c: x y\n  d:\n  - 1\n  - e: f\n    g: \"h: #\"\n  -   - i\n      - 'it''s'\n",
        "# comment\n---\na: b # comment\n\n# more\nc: d\n---\n---\n- x\n-\n  y: z\n",
        "{\"a\": [1, true, null, \"x\\n\\\"y\\\"\"], \"b\":{\"c\":{}},\n \"d\": []}\n",
        "f:metadata:\n  .: {}\n  k:{\"type\":\"Ready\"}:\n    é: ü\nregex: ^/a(b|c)[0-9]+$\n",
        "a:\n  b: |\n    one\n      two\n\n    three\n  c: |-\n    x: y\n  d: |+\n    z\n\ne: -1\n",
        "a: {b: c, d: [e, 10.0.0.1:80],\n  f: \"g\"}\n\"h\": 'i'\n",
    ] {
        let read = simple(text);
        assert_eq!(read.last().map(String::as_str), Some("the end"), "{text}\n{read:#?}");
        assert_same(text);
    }
}

#[test]
fn what_is_unusual_is_left_to_the_crate() {
    for text in [
        "a: &x b\nc: *x\n",
        "a:\n",
        "a: b\n  c\n",
        "a: b: c\n",
        "a: 1\na: 2\n",
        "<<: {a: b}\n",
        "a:\tb\n",
        "a: !!str 1\n",
        "a: >\n  b\n",
        "? a\n: b\n",
        "a: [b,]\n",
        "{a: 1} b\n",
        "%YAML 1.2\n---\na: b\n",
        "a: b\n...\n",
        "a:\n- b\nc\n",
        "a:\n-\n  b\n",
        "\"a\n",
        "a: 'b\n  c'\n",
    ] {
        let read = simple(text);
        assert_ne!(read.last().map(String::as_str), Some("the end"), "{text}\n{read:#?}");
        assert_same(text);
    }
}

/// Pieces that texts are put together from, so that most of them mean something.
const PIECES: [&str; 44] = [
    "a", "b:", "c: d", ": ", ":", "- ", "-", "\n", "\n", "\n", "\n  ", "\n  ", "\n    ", "\n ", " ", "  ",
    "\"x\"", "\"", "'y'", "'", "\\n", "\\\"", "{", "}", "[", "]", ", ", ",", "#", " # e", "|", "|-",
    "\n---\n", "---", "...", "é", "1.5", "~", "?", "&f ", "*f", "<<: ", "{g: h}", "[i, j]",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn both_readers_come_to_the_same(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..24)
    ) {
        assert_same(&pieces.concat());
    }
}

proptest! {
    #[test]
    fn resources_cut_and_joined_anywhere_are_read_the_same(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)
    ) {
        let text = include_str!("sample.yaml");
        let mut parts = String::new();
        for (from, to) in cuts {
            let (from, to) = (from.index(text.len()), to.index(text.len()));
            parts.push_str(text.get(from.min(to)..from.max(to)).unwrap_or_default());
        }
        assert_same(&parts);
        assert_same(text);
    }
}
