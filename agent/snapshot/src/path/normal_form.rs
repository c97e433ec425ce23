//! The normal form of a path.

use std::borrow::Cow;

use super::{InvalidPath, PathNormalization, path_end};

/// The normal form of a path, with its query as it came; borrowed when it is in its normal form already.
///
/// Where Envoy is lax this is not: `..` is resolved also when it is written `%2e%2e` and followed by `;` (which some
/// servers take for the beginning of parameters), and three slashes merge into one.
///
/// # Errors
/// The path has no normal form. Answer with 400.
pub fn normalize_path(path_and_query: &str, mode: PathNormalization) -> Result<Cow<'_, str>, InvalidPath> {
    let (path, query) = path_and_query.split_at(path_end(path_and_query));
    // `*` is no path.
    if mode == PathNormalization::None || !path.starts_with('/') || is_normal(path.as_bytes(), mode) {
        return Ok(Cow::Borrowed(path_and_query));
    }
    let mut out = String::with_capacity(path_and_query.len());
    write_normal(&mut out, path, mode)?;
    out.push_str(query);
    Ok(Cow::Owned(out))
}

/// Whether nothing would change. Wrong only in one direction: what it takes for normal is.
fn is_normal(path: &[u8], mode: PathNormalization) -> bool {
    let merges = mode != PathNormalization::Base;
    path.iter().enumerate().all(|(at, byte)| match byte {
        b'/' => match path.get(at + 1) {
            Some(b'.') => false,
            Some(b'/') => !merges,
            _ => true,
        },
        b'%' => matches!(escaped(&path[at..], mode), Piece::Kept),
        byte => !must_be_escaped(*byte) && *byte != b'\\',
    })
}

fn write_normal(out: &mut String, path: &str, mode: PathNormalization) -> Result<(), InvalidPath> {
    let decoded = decode(path, mode)?;
    let mut segments = decoded[1..].split('/').peekable();
    out.push('/');
    while let Some(segment) = segments.next() {
        match segment.split(';').next() {
            Some(".") => {}
            Some("..") => {
                let parent = out[..out.len() - 1].rfind('/').map_or(1, |slash| slash + 1);
                out.truncate(parent);
            }
            _ => {
                out.push_str(segment);
                if segments.peek().is_some() {
                    out.push('/');
                }
            }
        }
    }
    if mode != PathNormalization::Base {
        merge_slashes(out);
    }
    Ok(())
}

/// The path with its segments still in place, each byte as it is to be.
fn decode(path: &str, mode: PathNormalization) -> Result<String, InvalidPath> {
    let mut out = String::with_capacity(path.len());
    let mut chars = path.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => out.push('/'),
            '%' => match escaped(&path.as_bytes()[at..], mode) {
                Piece::Kept => out.push('%'),
                Piece::Refused => return Err(InvalidPath::Null),
                Piece::Plain(plain) if continues_escape(&out, plain) => out.push('%'),
                Piece::Plain(plain) => {
                    out.push(plain);
                    chars.nth(1);
                }
            },
            char if char.is_ascii() && must_be_escaped(char as u8) => {
                out.push_str(&format!("%{:02X}", char as u8));
            }
            char => out.push(char),
        }
    }
    Ok(out)
}

/// Whether a character would become part of an escape that a lone `%` begins.
fn continues_escape(out: &str, plain: char) -> bool {
    let before = match out.as_bytes() {
        [before @ .., last] if last.is_ascii_hexdigit() => before,
        before => before,
    };
    plain.is_ascii_hexdigit() && before.ends_with(b"%")
}

fn merge_slashes(out: &mut String) {
    let mut before = None;
    out.retain(|char| before.replace(char) != Some('/') || char != '/');
}

/// What becomes of an escape.
enum Piece {
    Kept,
    Refused,
    Plain(char),
}

fn escaped(bytes: &[u8], mode: PathNormalization) -> Piece {
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(1), digit(2)) else { return Piece::Kept };
    match char::from_u32(high << 4 | low) {
        Some('\0') => Piece::Refused,
        Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => Piece::Plain(plain),
        Some('/' | '\\') if mode == PathNormalization::DecodeAndMergeSlashes => Piece::Plain('/'),
        _ => Piece::Kept,
    }
}

/// Bytes that are no part of a URI but that clients send.
fn must_be_escaped(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
mod tests {
    use super::{PathNormalization::*, *};

    fn normal(path: &str, mode: PathNormalization) -> String {
        normalize_path(path, mode).unwrap().into_owned()
    }

    /// What Envoy 1.40 makes of them with `normalize_path`.
    #[test]
    fn base_is_what_envoy_makes_of_it() {
        for (path, expected) in [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/..", "/"),
            ("/../a", "/a"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../../../c", "/c"),
            ("/a//b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("/a///../b", "/a//b"),
            ("//../a", "/a"),
            ("/a\\..\\b", "/b"),
            ("/a\\", "/a/"),
            ("/%2e%2e/a", "/a"),
            ("/a/.%2E/b", "/b"),
            ("/a%2e%2e/b", "/a../b"),
            ("/%41%7e%2d%5f%21", "/A~-_%21"),
            ("/a%2F%5c..%2fb", "/a%2F%5c..%2fb"),
            ("/a/%5c%2e%2e/b", "/a/%5c../b"),
            ("/%zz/%4/%", "/%zz/%4/%"),
            ("/%c3%a9%20%3f%23%7c", "/%c3%a9%20%3f%23%7c"),
            ("/%25%32%65/", "/%252e/"),
            ("/a;x/../b", "/b"),
            ("/a/..;/b", "/b"),
            ("/a/.;x/b", "/a/b"),
            ("/a/..;x=1/b", "/b"),
            ("/a/..;", "/"),
            ("/a/...;/b", "/a/...;/b"),
            ("/a/;/../b", "/a/b"),
            ("/a;../b", "/a;../b"),
            ("/a/..b/b../.c/d.", "/a/..b/b../.c/d."),
            ("/{a}|^[b]'\"", "/%7Ba%7D%7C%5E[b]'%22"),
            // What stands behind a lone `%` cannot hide.
            ("/%/%2E%2e/a", "/a"),
            ("/x/%/%2e%2e/%2e%2e/a", "/a"),
            ("/%%2e/%2/%2e/%%7e", "/%./%2/%~"),
            ("/%2g%2e/%g%41", "/%2g./%gA"),
            ("/a?x=/../y%41", "/a?x=/../y%41"),
            ("/a/..?b", "/?b"),
            ("*", "*"),
        ] {
            assert_eq!(normal(path, Base), expected, "{path}");
        }
        assert_eq!(normalize_path("/a%00", Base), Err(InvalidPath::Null));
    }

    #[test]
    fn nothing_undone_completes_an_escape() {
        for path in ["/%%32e", "/%2%65", "/%%41"] {
            assert_eq!(normal(path, Base), path);
        }
        assert_eq!(normal("/%%2f%%41", DecodeAndMergeSlashes), "/%/%%41");
    }

    #[test]
    fn further_modes_do_more_and_none_does_nothing() {
        for (path, merged, decoded) in [
            ("/a//b", "/a/b", "/a/b"),
            ("//a//b/", "/a/b/", "/a/b/"),
            ("/a//?b//c", "/a/?b//c", "/a/?b//c"),
            ("/a///../b", "/a/b", "/a/b"),
            ("/a%2fb", "/a%2fb", "/a/b"),
            ("/a%5C..%5cb", "/a%5C..%5cb", "/b"),
            ("/a/.%2F/b", "/a/.%2F/b", "/a/b"),
            ("/..%2f", "/..%2f", "/"),
        ] {
            assert_eq!(normal(path, MergeSlashes), merged, "{path}");
            assert_eq!(normal(path, DecodeAndMergeSlashes), decoded, "{path}");
        }
        assert_eq!(normal("/a/..//%00", None), "/a/..//%00");
    }

    #[test]
    fn what_is_normal_is_borrowed() {
        for path in ["/", "/a/b?c=../d", "/a%20b", "/a%2Fb", "/a.b/c..d", "*"] {
            assert!(matches!(normalize_path(path, Base), Ok(Cow::Borrowed(_))), "{path}");
        }
    }

    #[test]
    fn a_normal_form_is_its_own() {
        let pieces = ["/", ".", "%2e", "%32", "\\", "%2F", "%5c", ";", "e", "%", "%25", "|", "?", "%00"];
        for code in 0..pieces.len().pow(4) {
            let piece = |i: u32| pieces[code / pieces.len().pow(i) % pieces.len()];
            let path: String = std::iter::once("/").chain((0..4).map(piece)).collect();
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
                if let Ok(once) = normalize_path(&path, mode) {
                    let twice = normalize_path(&once, mode);
                    assert_eq!(twice.as_deref(), Ok(&*once), "{path} {mode:?}");
                }
            }
        }
    }
}
