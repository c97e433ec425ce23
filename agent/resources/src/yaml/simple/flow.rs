//! Flow lists and objects: `[a, b]`, `{a: b}`, and so JSON.

use std::borrow::Cow;

use super::{Cursor, Member, Node, Value, repeated_key, scalar::begins_plain};

impl<'t> Cursor<'t> {
    /// A list, an object or a text within one. Ends right after it. Lines within must be indented further than
    /// `outer`.
    pub(super) fn flow_node(&mut self, outer: Option<usize>) -> Option<Node<'t>> {
        let position = self.position();
        let value = match self.byte()? {
            b'[' => Value::List(self.flow_items(outer)?),
            b'{' => Value::Object(self.flow_members(outer)?),
            _ => {
                let (text, plain) = self.flow_text()?;
                Value::Scalar { text, plain }
            }
        };
        self.counted(Node { position, value })
    }

    fn flow_items(&mut self, outer: Option<usize>) -> Option<Vec<Node<'t>>> {
        let mut items = Vec::new();
        self.deeper()?;
        self.at += 1;
        self.skip_white(outer)?;
        while self.byte()? != b']' {
            items.push(self.flow_node(outer)?);
            self.flow_end(b']', outer)?;
        }
        self.at += 1;
        self.depth -= 1;
        Some(items)
    }

    fn flow_members(&mut self, outer: Option<usize>) -> Option<Vec<Member<'t>>> {
        let mut members = Vec::new();
        self.deeper()?;
        self.at += 1;
        self.skip_white(outer)?;
        while self.byte()? != b'}' {
            let position = self.position();
            let (key, plain) = self.flow_text()?;
            self.skip_spaces();
            (self.byte()? == b':').then_some(())?;
            self.at += 1;
            (!plain || matches!(self.byte()?, b' ' | b'\n')).then_some(())?;
            self.skip_white(outer)?;
            let value = self.flow_node(outer)?;
            members.push(self.member((key, position), value)?);
            self.flow_end(b'}', outer)?;
        }
        self.at += 1;
        self.depth -= 1;
        (repeated_key(&members).is_none()).then_some(members)
    }

    /// Goes past the comma to the next item, or to the end.
    fn flow_end(&mut self, end: u8, outer: Option<usize>) -> Option<()> {
        self.skip_white(outer)?;
        match self.byte()? {
            b',' => {
                self.at += 1;
                self.skip_white(outer)?;
                // A comma before the end is unusual.
                (self.byte()? != end).then_some(())
            }
            byte => (byte == end).then_some(()),
        }
    }

    fn flow_text(&mut self) -> Option<(Cow<'t, str>, bool)> {
        match self.byte()? {
            b'"' | b'\'' => Some((self.quoted()?, false)),
            first => {
                begins_plain(first, self.byte_after()).then_some(())?;
                let end = self.end_of_plain(|byte| matches!(byte, b',' | b'[' | b']' | b'{' | b'}'))?;
                let text = self.text[self.at..end].trim_end_matches(' ');
                self.at += text.len();
                Some((Cow::Borrowed(text), true))
            }
        }
    }

    fn skip_white(&mut self, outer: Option<usize>) -> Option<()> {
        loop {
            self.skip_spaces();
            if self.byte() != Some(b'\n') {
                break;
            }
            self.new_line();
            self.skip_spaces();
            let is_within = outer.is_none_or(|outer| self.at - self.line_start > outer);
            (is_within || self.byte() == Some(b'\n')).then_some(())?;
        }
        (self.byte()? != b'#').then_some(())
    }
}
