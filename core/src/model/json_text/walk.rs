//! Walking through containers, to look at some of what is in them.

use std::borrow::Cow;
use std::marker::PhantomData;

use super::scan::{Bare, Quotes, skip_blanks, skip_quoting_string, skip_value};
use super::strings::decode_string;
use super::{DEPTH_MAX, Scan, Text, fail};

/// A value that is looked at as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::model) enum Scalar<'a> {
    /// A string: its content.
    Text(Cow<'a, str>),
    /// Anything else, as it is written; also a string with a lone surrogate, which Unicode text cannot hold.
    Other(&'a str),
}

impl Scalar<'_> {
    /// Whether it is the string `content`.
    pub(in crate::model) fn is_text(&self, content: &str) -> bool {
        matches!(self, Self::Text(text) if text == content)
    }
}

/// Walks a text value by value, validating on the way: for readers that look at some members and pass over the rest.
#[derive(Clone, Debug)]
pub(in crate::model) struct Cursor<'a, Q = Bare> {
    text: &'a str,
    at: usize,
    depth: u32,
    quotes: PhantomData<Q>,
}

impl<'a, Q: Quotes> Cursor<'a, Q> {
    /// Before the first value of `text`.
    pub(in crate::model) fn new(text: &'a str) -> Self {
        Self { text, at: skip_blanks(text.as_bytes(), 0), depth: 0, quotes: PhantomData }
    }

    /// Passes over the value here.
    #[inline]
    pub(in crate::model) fn skip(&mut self) -> Scan<()> {
        self.at = skip_value::<Q>(self.text.as_bytes(), self.at, self.depth)?;
        Ok(())
    }

    /// Passes over the value here and returns its text.
    #[inline]
    pub(in crate::model) fn value(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.skip()?;
        Ok(&self.text[start..self.at])
    }

    /// Passes over the value here and returns what it is.
    pub(in crate::model) fn scalar(&mut self) -> Scan<Scalar<'a>> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&Q::QUOTE[0]) {
            return self.value().map(Scalar::Other);
        }
        let start = self.at;
        let (end, is_plain) = Q::skip_plain(bytes, start)?;
        self.at = end;
        if is_plain {
            return Ok(Scalar::Text(Cow::Borrowed(&self.text[start + Q::QUOTE.len()..end - Q::QUOTE.len()])));
        }
        let raw = &self.text[start..end];
        Ok(decode_string(raw).map_or(Scalar::Other(raw), Scalar::Text))
    }

    /// Calls `member` for each member of the object here, with the bytes of the name's content; it must pass over the value. Names
    /// that Unicode cannot hold are given as nothing. `false`, and nothing is passed over, if the value is not an object.
    #[inline]
    pub(in crate::model) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, &[u8]) -> Scan<()>,
    ) -> Scan<bool> {
        self.container(b'{', b'}', |cursor| {
            let start = cursor.at;
            let (end, is_plain) = cursor.name()?;
            if is_plain {
                member(cursor, &cursor.text.as_bytes()[start + Q::QUOTE.len()..end - Q::QUOTE.len()])
            } else {
                let name = decode_string(&cursor.text[start..end]).unwrap_or_default();
                member(cursor, name.as_bytes())
            }
        })
    }

    /// As [`Self::members`], with the name as text. Fails on a name that Unicode text cannot hold.
    #[inline]
    pub(in crate::model) fn named_members(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Scan<()>,
    ) -> Scan<bool> {
        self.container(b'{', b'}', |cursor| {
            let start = cursor.at;
            let (end, is_plain) = cursor.name()?;
            let name = if is_plain {
                Cow::Borrowed(&cursor.text[start + Q::QUOTE.len()..end - Q::QUOTE.len()])
            } else {
                decode_string(&cursor.text[start..end])?
            };
            member(cursor, name)
        })
    }

    /// Where the cursor is.
    pub(in crate::model) fn position(&self) -> usize {
        self.at
    }

    /// What was passed over since `position`.
    pub(in crate::model) fn since(&self, position: usize) -> &'a str {
        &self.text[position..self.at]
    }

    /// Calls `element` for each element of the array here; it must pass over it. `false`, and nothing is passed over, if the
    /// value is not an array.
    #[inline]
    pub(in crate::model) fn elements(&mut self, element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<bool> {
        self.container(b'[', b']', element)
    }

    /// Checks that nothing but blanks is left.
    pub(in crate::model) fn end(&self) -> Scan<()> {
        let at = skip_blanks(self.text.as_bytes(), self.at);
        if at == self.text.len() { Ok(()) } else { fail(at, "more text after the value") }
    }

    #[inline]
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

    /// Passes over a member's name and the colon; returns where the name ends, quotes included, and whether it has no escapes.
    #[inline]
    fn name(&mut self) -> Scan<(usize, bool)> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&Q::QUOTE[0]) {
            return fail(self.at, "expected a member name");
        }
        let (end, is_plain) = Q::skip_plain(bytes, self.at)?;
        let colon = skip_blanks(bytes, end);
        if bytes.get(colon) != Some(&b':') {
            return fail(colon, "expected a colon");
        }
        self.at = skip_blanks(bytes, colon + 1);
        Ok((end, is_plain))
    }
}

impl<'a> Cursor<'a> {
    /// Passes over the value here and returns its content, with its spelling where that saves work, if it is a string that
    /// Unicode text can hold, else the value as it is written.
    pub(in crate::model) fn spelled(&mut self) -> Scan<Result<Text, &'a str>> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) == Some(&b'"')
            && let Some(end) = skip_quoting_string(bytes, self.at)
        {
            let inner = &self.text[self.at + 1..end - 1];
            self.at = end;
            return Ok(Ok(Text::quoting(inner)));
        }
        Ok(match self.scalar()? {
            Scalar::Text(content) => Ok(content.as_ref().into()),
            Scalar::Other(raw) => Err(raw),
        })
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
        let (end, _) = self.cursor.name()?;
        Ok(Some((&self.cursor.text[at..end], self.cursor.value()?)))
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
        let end = skip_value::<Bare>(bytes, at, 1).ok()?;
        found.push(&text[at..end]);
        at = skip_blanks(bytes, end);
    }
    Some(found)
}
