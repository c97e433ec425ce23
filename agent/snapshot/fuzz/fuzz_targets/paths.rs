//! Paths of requests: normal forms and rewrites.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use snapshot::{PathNormalization, PathRewrite, SearchPattern, normalize_path};

/// Where a path ends and what takes its place come from the input, too.
type Input<'i> = (&'i str, &'i str, u8);

static SEARCH: LazyLock<SearchPattern> =
    LazyLock::new(|| SearchPattern::new("/([^/]+)(/.*)?$").expect("it is an expression"));

fuzz_target!(|input: Input<'_>| {
    let (path, text, matched) = input;
    for mode in [
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes,
    ] {
        let Ok(normal) = normalize_path(path, mode) else { continue };
        let again = normalize_path(&normal, mode).expect("a normal form has one");
        assert_eq!(again, normal, "a normal form is its own ({mode:?})");
        if mode != PathNormalization::None && path.starts_with('/') {
            let path = normal.split('?').next().unwrap_or_default();
            assert!(path.split('/').all(|segment| segment != ".." && segment != "."), "{path}");
        }
    }
    let rewrites = [
        PathRewrite::Whole(text.to_owned()),
        PathRewrite::Prefix { matched: matched.into(), text: text.to_owned() },
        PathRewrite::Regex { search: SEARCH.clone(), replacement: text.to_owned() },
    ];
    for rewrite in rewrites {
        let target = rewrite.apply(path);
        assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
    }
});
