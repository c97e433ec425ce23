//! The layout of the demo's output: one column for who acts, one for what happens, at most 100 wide.

use std::io::Write;

use anyhow::Result;

/// Where the story is written.
pub(crate) struct Page<W> {
    out: W,
    colours: bool,
    actor: String,
}

impl<W: Write> Page<W> {
    /// A page on `out`, with escape sequences for colours only if told so.
    pub(crate) fn new(out: W, colours: bool) -> Self {
        Self { out, colours, actor: String::new() }
    }

    /// A heading with an empty line above.
    pub(crate) fn heading(&mut self, text: &str) -> Result<()> {
        self.actor.clear();
        let text = self.painted(BOLD, text);
        Ok(writeln!(self.out, "\n{text}")?)
    }

    /// A line below a heading.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.out, "   {text}")?)
    }

    /// What `actor` does; its name is printed only where it changes.
    pub(crate) fn step(&mut self, actor: &str, text: &str) -> Result<()> {
        let name = if actor == self.actor { "" } else { actor };
        let name = self.painted(CYAN, &format!("{name:<ACTOR$}"));
        writeln!(self.out, "   {name}{text}")?;
        self.actor = actor.into();
        // The story is followed while it happens.
        Ok(self.out.flush()?)
    }

    /// A named fact below a step.
    pub(crate) fn fact(&mut self, name: &str, value: &str) -> Result<()> {
        let value = self.painted(BOLD, value);
        Ok(writeln!(self.out, "   {:ACTOR$}  {name:<FACT$}{value}", "")?)
    }

    /// A rule that fired: the rule with its counter, and below it what that means.
    pub(crate) fn rule(&mut self, line: &str, before: u64, after: u64, meaning: &str) -> Result<()> {
        let counter = format!("packets {before} → {after}");
        let (first, rest) = folded(line, WIDTH - ACTOR - 5 - counter.chars().count() - 2);
        let gap = WIDTH - ACTOR - 5 - first.chars().count() - counter.chars().count();
        let (first, counter) = (self.painted(YELLOW, first), self.painted(BOLD, &counter));
        writeln!(self.out, "   {:ACTOR$}  {first}{:gap$}{counter}", "", "")?;
        if !rest.is_empty() {
            let rest = self.painted(YELLOW, rest);
            writeln!(self.out, "   {:ACTOR$}    {rest}", "")?;
        }
        Ok(writeln!(self.out, "   {:ACTOR$}    {meaning}", "")?)
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("{colour}{text}\x1b[0m") } else { text.to_string() }
    }
}

const WIDTH: usize = 100;
const ACTOR: usize = 11;
const FACT: usize = 24;
const BOLD: &str = "\x1b[1m";
const CYAN: &str = "\x1b[36m";
const YELLOW: &str = "\x1b[33m";

/// Splits at the last blank that keeps the first part within `width`.
fn folded(text: &str, width: usize) -> (&str, &str) {
    if text.len() <= width {
        return (text, "");
    }
    let cut = text[..width].rfind(' ').unwrap_or(width);
    (&text[..cut], text[cut..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(write: impl FnOnce(&mut Page<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        write(&mut Page::new(&mut out, false));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_line_is_wider_than_100_columns() {
        let rule = "-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 \
                    -j ISTIO_IN_REDIRECT";
        let page = printed(|page| page.rule(rule, 9, 10, "meaning").unwrap());
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
        assert!(page.contains("packets 9 → 10") && page.contains("-j ISTIO_IN_REDIRECT"));
    }

    #[test]
    fn an_actor_is_named_once() {
        let page = printed(|page| {
            page.step("gateway", "one").unwrap();
            page.step("gateway", "two").unwrap();
        });
        assert_eq!(page.matches("gateway").count(), 1);
    }
}
