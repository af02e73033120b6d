//! JSON as text: what a document says is kept as it was written, and only the members that decide are looked at.
//!
//! Metadata passes through this engine without being understood completely, so numbers keep their form, unknown members
//! their place and strings their escapes (decision D18). The scanner validates; it never builds a tree.

mod scan;
mod strings;
mod text;
mod walk;
mod write;

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use smol_str::{SmolStr, SmolStrBuilder};

use scan::skip_value;
pub(super) use scan::{Bare, Escaped, Quotes, skip_blanks};
pub(super) use strings::{decode_string, write_string};
pub use text::Text;
pub(super) use walk::{Cursor, Members, Scalar, elements};
pub(super) use write::{write_canonical, write_compact, write_name, write_plain_name, write_quoted_name};

/// How deep arrays and objects may nest. Deeper text is refused, so a hostile document cannot exhaust the stack.
const DEPTH_MAX: u32 = 128;

/// Contents that need no allocation, quotes included: what a short text holds in place.
const SHORT_MAX: usize = 21;

/// Why a text is not usable JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not valid JSON at byte {offset}: {reason}")]
pub struct JsonError {
    /// Byte position in the text that was read.
    pub offset: usize,
    /// What was wrong there.
    pub reason: &'static str,
}

type Scan<T> = Result<T, JsonError>;

const fn fail<T>(offset: usize, reason: &'static str) -> Scan<T> {
    Err(JsonError { offset, reason })
}

/// The text of one valid JSON value, without surrounding blanks. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(SmolStr);

impl RawJson {
    /// The value written in `text`.
    pub fn parse(text: &str) -> Scan<Self> {
        check(text).map(Self::scanned)
    }

    /// The JSON string whose content is `content`.
    pub fn string(content: &str) -> Self {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if content.len() <= SHORT_MAX && content.bytes().all(is_plain) {
            let mut text = SmolStrBuilder::new();
            text.push('"');
            text.push_str(content);
            text.push('"');
            return Self(text.finish());
        }
        let mut text = String::with_capacity(content.len() + 2);
        write_string(&mut text, content);
        Self(text.into())
    }

    /// A non-negative integer.
    pub fn number(number: u64) -> Self {
        let mut text = SmolStrBuilder::new();
        write!(text, "{number}").expect("writing to a string cannot fail");
        Self(text.finish())
    }

    /// A truth value.
    pub fn bool(value: bool) -> Self {
        Self(SmolStr::new_static(if value { "true" } else { "false" }))
    }

    /// A text that the scanner has already accepted.
    pub(super) fn scanned(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The content, if this is a string that Unicode text can hold.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        text_of(&self.0)
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that `text` is exactly one JSON value and returns it without the blanks around it.
pub(super) fn check(text: &str) -> Scan<&str> {
    let bytes = text.as_bytes();
    let start = skip_blanks(bytes, 0);
    let end = skip_value::<Bare>(bytes, start, 0)?;
    if skip_blanks(bytes, end) == bytes.len() {
        Ok(&text[start..end])
    } else {
        fail(end, "more text after the value")
    }
}

/// The content of the JSON string `raw`, or `None` if it is another kind of value or holds a lone surrogate.
pub(super) fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    raw.starts_with('"').then(|| decode_string(raw).ok()).flatten()
}

#[cfg(test)]
mod tests;
