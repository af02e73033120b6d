//! Walking through containers, to look at some of what is in them.

use super::scan::{next_special, skip_blanks, skip_string, skip_value};
use super::strings::decode_string;
use super::{DEPTH_MAX, Scan, fail};

/// Walks a text value by value, validating on the way: for readers that look at some members and pass over the rest.
#[derive(Clone, Debug)]
pub(in crate::model) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    /// Before the first value of `text`.
    pub(in crate::model) fn new(text: &'a str) -> Self {
        Self { text, at: skip_blanks(text.as_bytes(), 0), depth: 0 }
    }

    /// Passes over the value here and returns its text.
    pub(in crate::model) fn value(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.at = skip_value(self.text.as_bytes(), start, self.depth)?;
        Ok(&self.text[start..self.at])
    }

    /// Calls `member` for each member of the object here, with the name's content; it must pass over the value. Names that
    /// Unicode cannot hold are given as nothing. `false`, and nothing is passed over, if the value is not an object.
    pub(in crate::model) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Scan<()>,
    ) -> Scan<bool> {
        self.container(b'{', b'}', |cursor| {
            let (raw, is_plain) = cursor.name()?;
            if is_plain {
                member(cursor, &raw[1..raw.len() - 1])
            } else {
                let name = decode_string(raw).unwrap_or_default();
                member(cursor, &name)
            }
        })
    }

    /// Calls `element` for each element of the array here; it must pass over it. `false`, and nothing is passed over, if the
    /// value is not an array.
    pub(in crate::model) fn elements(&mut self, element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<bool> {
        self.container(b'[', b']', element)
    }

    /// Checks that nothing but blanks is left.
    pub(in crate::model) fn end(&self) -> Scan<()> {
        let at = skip_blanks(self.text.as_bytes(), self.at);
        if at == self.text.len() { Ok(()) } else { fail(at, "more text after the value") }
    }

    fn container(&mut self, open: u8, close: u8, mut entry: impl FnMut(&mut Self) -> Scan<()>) -> Scan<bool> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&open) {
            return Ok(false);
        }
        if self.depth >= DEPTH_MAX {
            return fail(self.at, "nested too deeply");
        }
        self.depth += 1;
        self.at = skip_blanks(bytes, self.at + 1);
        if bytes.get(self.at) != Some(&close) {
            loop {
                entry(self)?;
                self.at = skip_blanks(bytes, self.at);
                match bytes.get(self.at) {
                    Some(b',') => self.at = skip_blanks(bytes, self.at + 1),
                    Some(&byte) if byte == close => break,
                    Some(_) => return fail(self.at, "expected a comma or the end of the container"),
                    None => return fail(self.at, "the text ends too early"),
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(true)
    }

    /// Passes over a member's name and the colon; returns the name, still quoted and escaped, and whether it has no escapes.
    fn name(&mut self) -> Scan<(&'a str, bool)> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        if bytes.get(start) != Some(&b'"') {
            return fail(start, "expected a member name");
        }
        let first = next_special(bytes, start + 1);
        let is_plain = bytes.get(first) == Some(&b'"');
        let end = if is_plain { first + 1 } else { skip_string(bytes, start)? };
        let colon = skip_blanks(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return fail(colon, "expected a colon");
        }
        self.at = skip_blanks(bytes, colon + 1);
        Ok((&self.text[start..end], is_plain))
    }
}

/// The members of an object in their order: name (still quoted and escaped) and value, validated while walking.
#[derive(Clone, Debug)]
pub(in crate::model) struct Members<'a> {
    cursor: Cursor<'a>,
    first: bool,
    done: bool,
}

impl<'a> Members<'a> {
    /// The members of the object that `text` starts with; `None` if the value there is not an object.
    pub(in crate::model) fn of(text: &'a str) -> Option<Self> {
        let mut cursor = Cursor::new(text);
        if text.as_bytes().get(cursor.at) != Some(&b'{') {
            return None;
        }
        cursor.at += 1;
        cursor.depth = 1;
        Some(Self { cursor, first: true, done: false })
    }

    fn step(&mut self) -> Scan<Option<(&'a str, &'a str)>> {
        let bytes = self.cursor.text.as_bytes();
        let mut at = skip_blanks(bytes, self.cursor.at);
        if bytes.get(at) == Some(&b'}') {
            self.done = true;
            self.cursor.at = at + 1;
            return self.cursor.end().map(|()| None);
        }
        if !self.first {
            if bytes.get(at) != Some(&b',') {
                return fail(at, "expected a comma or the end of the object");
            }
            at = skip_blanks(bytes, at + 1);
        }
        self.first = false;
        self.cursor.at = at;
        let (name, _) = self.cursor.name()?;
        Ok(Some((name, self.cursor.value()?)))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Scan<(&'a str, &'a str)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.step().transpose();
        self.done |= matches!(item, Some(Err(_)));
        item
    }
}

/// The elements of the array that `text` is; `None` if it is another kind of value. `text` must have been validated.
pub(in crate::model) fn elements(text: &str) -> Option<Vec<&str>> {
    let bytes = text.as_bytes();
    let mut at = skip_blanks(bytes, 0);
    if bytes.get(at) != Some(&b'[') {
        return None;
    }
    let mut found = Vec::new();
    at = skip_blanks(bytes, at + 1);
    while bytes.get(at).is_some_and(|&byte| byte != b']') {
        if bytes[at] == b',' {
            at = skip_blanks(bytes, at + 1);
        }
        let end = skip_value(bytes, at, 1).ok()?;
        found.push(&text[at..end]);
        at = skip_blanks(bytes, end);
    }
    Some(found)
}
