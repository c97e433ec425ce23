//! Addresses of unix sockets, as every resource writes them: `unix:///path`, or `unix://@name` for a name that is no file.

use crate::finding::Problem;

const SCHEME: &str = "unix://";

/// Bytes of a path that the kernel takes (`sun_path`, which ends with a zero).
const LONGEST: usize = 107;

/// What stands for a unix socket in messages that say what is expected.
pub(crate) const FORM: &str = "`unix://` and an absolute path";

/// Whether an address is that of a unix socket, good or not.
pub(crate) fn is_unix(text: &str) -> bool {
    text.starts_with(SCHEME)
}

/// The absolute path, or `@` and the name, of a unix socket; `None` when `text` is another kind of address.
///
/// # Errors
/// What is wrong with the path.
pub(crate) fn path_of(text: &str) -> Option<Result<&str, Problem>> {
    let path = text.strip_prefix(SCHEME)?;
    Some(checked(path).map(|()| path).map_err(|problem| problem.found(text)))
}

/// The absolute path, or `@` and the name, of a good address of a unix socket.
pub fn unix_path(text: &str) -> Option<&str> {
    path_of(text)?.ok()
}

fn checked(path: &str) -> Result<(), Problem> {
    if !path.starts_with(['/', '@']) || path.len() == 1 || path.ends_with('/') {
        let problem = Problem::new("is no path of a unix socket");
        return Err(problem.expected("`unix:///path`, or `unix://@name` for a name that is no file"));
    }
    if path.contains(|char: char| char.is_control()) {
        let problem = Problem::new("has a control character in the path of a unix socket");
        return Err(problem.remedy("remove it"));
    }
    if path.len() > LONGEST {
        let problem =
            Problem::new(format!("is a path of {} bytes, more than a unix socket can have", path.len()));
        return Err(problem.expected(format!("at most {LONGEST} bytes after `{SCHEME}`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_short_enough_for_the_kernel() {
        let longest = format!("unix:///{}", "a".repeat(106));
        for good in ["unix:///run/a.sock", "unix://@a", longest.as_str()] {
            assert_eq!(path_of(good), Some(Ok(&good[7..])), "{good}");
        }
        assert_eq!(path_of("10.0.0.1"), None);
        let too_long = format!("unix:///{}", "a".repeat(107));
        for (bad, wrong) in [
            ("unix://", "is no path of a unix socket (found `unix://`; expected `unix:///path`"),
            ("unix://@", "is no path of a unix socket"),
            ("unix:///", "is no path of a unix socket"),
            ("unix:///run/", "is no path of a unix socket"),
            ("unix://run/a.sock", "is no path of a unix socket"),
            ("unix:///run/\0a", "has a control character"),
            (
                too_long.as_str(),
                "is a path of 108 bytes, more than a unix socket can have (found `unix:///aaa",
            ),
        ] {
            let problem = path_of(bad).unwrap().unwrap_err().to_string();
            assert!(problem.starts_with(wrong), "{problem}");
        }
    }
}
