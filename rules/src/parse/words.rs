//! The words of a rule as iptables-save writes them.

/// Splits at blanks; double quotes hold a word together, a backslash takes the next character as it is.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            blank if blank.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_a_word_together() {
        assert_eq!(
            split(r#"-m comment --comment "a b" -j X"#),
            ["-m", "comment", "--comment", "a b", "-j", "X"]
        );
        assert_eq!(split(r#"--comment "say \"hi\"""#), ["--comment", r#"say "hi""#]);
        assert_eq!(split(r#"--comment """#), ["--comment", ""]);
    }

    #[test]
    fn unfinished_quotes_and_escapes_end_with_the_line() {
        assert_eq!(split(r#"a "b c"#), ["a", "b c"]);
        assert_eq!(split("a\\"), ["a"]);
    }
}
