//! Normal forms of paths, so that routes and policies see what the application will.
//!
//! Checked against Envoy 1.40: the same paths come out, but for what [`normalize_path`] says.

mod normal_form;

use std::{borrow::Cow, fmt};

use crate::RequestHead;

pub use normal_form::normalize_path;

/// How the path of a request is brought into a normal form before it is matched (Istio's `pathNormalization`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PathNormalization {
    /// As it came.
    None,
    /// Segments `.` and `..` are resolved, `\` becomes `/`, escapes of letters, digits and `-._~` are undone, and bytes
    /// that should have been escaped are.
    #[default]
    Base,
    /// Also, several `/` become one.
    MergeSlashes,
    /// Also, `%2F` and `%5C` become `/`, before anything else.
    DecodeAndMergeSlashes,
}

/// What becomes of `%2F` and `%5C` in paths before they are brought into their normal form: some servers take them for
/// slashes, others do not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum EscapedSlashes {
    /// They are like other escapes.
    #[default]
    Kept,
    /// Their requests are refused.
    Refused,
    /// The client is sent to the path that has slashes instead.
    Redirected,
    /// Slashes take their place.
    Undone,
}

/// A path that has no normal form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidPath {
    /// It holds `%00`.
    Null,
    /// It holds `%2F` or `%5C` where such are refused.
    EscapedSlash,
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "invalid path: expected no `%00`",
            Self::EscapedSlash => {
                "invalid path: expected no `%2F` and no `%5C` (httpPathWithEscapedSlashesAction)"
            }
        })
    }
}

impl std::error::Error for InvalidPath {}

/// A request whose path is in its normal form.
pub struct Normalized<'r, R> {
    request: &'r R,
    path_and_query: Cow<'r, str>,
    /// Where the path ends: every route that is tried asks.
    path_len: usize,
    redirects: bool,
}

impl<'r, R: RequestHead> Normalized<'r, R> {
    /// The request with the normal form of its path.
    ///
    /// # Errors
    /// The path has none.
    pub fn new(
        request: &'r R,
        (mode, slashes): (PathNormalization, EscapedSlashes),
    ) -> Result<Self, InvalidPath> {
        let path = request.path_and_query();
        let (path_and_query, redirects) = match slashes {
            EscapedSlashes::Kept => (normalize_path(path, mode)?, false),
            slashes => match unescape_slashes(path) {
                None => (normalize_path(path, mode)?, false),
                Some(_) if slashes == EscapedSlashes::Refused => return Err(InvalidPath::EscapedSlash),
                Some(unescaped) => {
                    let normal = normalize_path(&unescaped, mode)?.into_owned();
                    (normal.into(), slashes == EscapedSlashes::Redirected)
                }
            },
        };
        let path_len = path_end(&path_and_query);
        Ok(Self { request, path_and_query, path_len, redirects })
    }

    /// Where the client is sent instead of being answered: path and query, which begin with one slash. What begins with
    /// two, or with a backslash behind the first, a browser takes for another host.
    pub fn redirect(&self) -> Option<Cow<'_, str>> {
        let normal = &*self.path_and_query;
        let path = normal.trim_start_matches(['/', '\\']);
        self.redirects.then(|| match normal.len() - path.len() {
            1 => Cow::Borrowed(normal),
            _ => Cow::Owned(format!("/{path}")),
        })
    }
}

impl<R: RequestHead> RequestHead for Normalized<'_, R> {
    fn method(&self) -> &str {
        self.request.method()
    }

    fn authority(&self) -> &str {
        self.request.authority()
    }

    fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    fn path(&self) -> &str {
        &self.path_and_query[..self.path_len]
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.request.header(name)
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.request.visit_headers(visit);
    }

    fn lines(&self, name: &str) -> usize {
        self.request.lines(name)
    }
}

/// Where the query begins, with its `?`.
fn path_end(path_and_query: &str) -> usize {
    path_and_query.bytes().position(|byte| byte == b'?').unwrap_or(path_and_query.len())
}

/// The path with slashes in place of escaped ones, with its query as it came; `None` when it has none.
fn unescape_slashes(path_and_query: &str) -> Option<String> {
    let (path, query) = path_and_query.split_at(path_end(path_and_query));
    let slash = |at: usize| match path.as_bytes().get(at + 1..at + 3)? {
        b"2f" | b"2F" => Some('/'),
        b"5c" | b"5C" => Some('\\'),
        _ => None,
    };
    let first = path.match_indices('%').find(|(at, _)| slash(*at).is_some())?.0;
    let mut out = String::with_capacity(path_and_query.len());
    out.push_str(&path[..first]);
    let mut rest = first;
    while let Some(char) = path[rest..].chars().next() {
        match slash(rest).filter(|_| char == '%') {
            Some(slash) => {
                out.push(slash);
                rest += 3;
            }
            None => {
                out.push(char);
                rest += char.len_utf8();
            }
        }
    }
    out.push_str(query);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{PathNormalization::*, *};

    fn normal(path: &str, mode: PathNormalization) -> String {
        normalize_path(path, mode).unwrap().into_owned()
    }

    struct Asked(&'static str);

    impl RequestHead for Asked {
        fn method(&self) -> &str {
            "GET"
        }

        fn authority(&self) -> &str {
            "a"
        }

        fn path_and_query(&self) -> &str {
            self.0
        }

        fn header(&self, _: &str) -> Option<&[u8]> {
            Option::None
        }

        fn visit_headers(&self, _: &mut dyn FnMut(&str, &[u8])) {}
    }

    /// The path that goes on, or where the client is sent.
    fn with_slashes(
        path: &'static str,
        mode: PathNormalization,
        slashes: EscapedSlashes,
    ) -> Result<(String, bool), InvalidPath> {
        let asked = Asked(path);
        let normal = Normalized::new(&asked, (mode, slashes))?;
        Ok((normal.path_and_query().to_owned(), normal.redirect().is_some()))
    }

    /// As Envoy 1.40 does it.
    #[test]
    fn escaped_slashes_are_treated_before_anything_else() {
        use EscapedSlashes::*;
        for (path, mode, unescaped) in [
            ("/a%2Fb//c?x=%2F", MergeSlashes, "/a/b/c?x=%2F"),
            ("/a%5Cb", Base, "/a/b"),
            ("/a%5cb", None, "/a\\b"),
            ("/a%2f..%2Fb", Base, "/b"),
            ("/a%2f%2fb", Base, "/a//b"),
            ("/%252f%2f\u{e9}", Base, "/%252f/\u{e9}"),
        ] {
            let told = |slashes| with_slashes(path, mode, slashes);
            assert_eq!(told(Redirected), Ok((unescaped.to_owned(), true)), "{path}");
            assert_eq!(told(Undone), Ok((unescaped.to_owned(), false)), "{path}");
            assert_eq!(told(Refused), Err(InvalidPath::EscapedSlash), "{path}");
            assert_eq!(told(Kept), Ok((normal(path, mode), false)), "{path}");
        }
        for path in ["/%2Fb.com/x", "/%5Cb.com/x", "/%2f%2fb.com/x", "/%5c%2fb.com/x", "//%2Fb.com/x"] {
            for mode in [None, Base, MergeSlashes] {
                let asked = Asked(path);
                let normal = Normalized::new(&asked, (mode, Redirected)).unwrap();
                assert_eq!(normal.redirect().as_deref(), Some("/b.com/x"), "{path} {mode:?}");
            }
        }
        for path in ["/a/b?%2f", "/%2", "/%", "/a%2eb", "/%252f"] {
            for slashes in [Refused, Redirected, Undone] {
                assert_eq!(with_slashes(path, Base, slashes), Ok((normal(path, Base), false)), "{path}");
            }
        }
    }
}
