//! JSON as text: what a document says is kept as it was written, and only the members that decide are looked at.
//!
//! Metadata passes through this engine without being understood completely, so numbers keep their form, unknown members
//! their place and strings their escapes (decision D18). The scanner validates; it never builds a tree.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// How deep arrays and objects may nest. Deeper text is refused, so a hostile document cannot exhaust the stack.
const DEPTH_MAX: u32 = 128;

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
pub struct RawJson(Arc<str>);

impl RawJson {
    /// The value written in `text`.
    pub fn parse(text: &str) -> Scan<Self> {
        check(text).map(|trimmed| Self(trimmed.into()))
    }

    /// The JSON string whose content is `content`.
    pub fn string(content: &str) -> Self {
        let mut text = String::with_capacity(content.len() + 2);
        write_string(&mut text, content);
        Self(text.into())
    }

    /// A non-negative integer.
    pub fn number(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// A truth value.
    pub fn bool(value: bool) -> Self {
        Self(if value { "true" } else { "false" }.into())
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
    let end = skip_value(bytes, start, 0)?;
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

/// Walks a text value by value, validating on the way: for readers that look at some members and pass over the rest.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Cursor<'a> {
    /// Before the first value of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: skip_blanks(text.as_bytes(), 0), depth: 0 }
    }

    /// Passes over the value here and returns its text.
    pub(super) fn value(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.at = skip_value(self.text.as_bytes(), start, self.depth)?;
        Ok(&self.text[start..self.at])
    }

    /// Calls `member` for each member of the object here, with the name's content; it must pass over the value. Names that
    /// Unicode cannot hold are given as nothing. `false`, and nothing is passed over, if the value is not an object.
    pub(super) fn members(&mut self, mut member: impl FnMut(&mut Self, &str) -> Scan<()>) -> Scan<bool> {
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
    pub(super) fn elements(&mut self, element: impl FnMut(&mut Self) -> Scan<()>) -> Scan<bool> {
        self.container(b'[', b']', element)
    }

    /// Checks that nothing but blanks is left.
    pub(super) fn end(&self) -> Scan<()> {
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
pub(super) struct Members<'a> {
    cursor: Cursor<'a>,
    first: bool,
    done: bool,
}

impl<'a> Members<'a> {
    /// The members of the object that `text` starts with; `None` if the value there is not an object.
    pub(super) fn of(text: &'a str) -> Option<Self> {
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
pub(super) fn elements(text: &str) -> Option<Vec<&str>> {
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

pub(super) fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

fn skip_value(bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
    match bytes.get(at) {
        Some(b'"') => skip_string(bytes, at),
        Some(b'{') => skip_container(bytes, at, b'}', depth),
        Some(b'[') => skip_container(bytes, at, b']', depth),
        Some(b't') => skip_literal(bytes, at, b"true"),
        Some(b'f') => skip_literal(bytes, at, b"false"),
        Some(b'n') => skip_literal(bytes, at, b"null"),
        Some(b'-' | b'0'..=b'9') => skip_number(bytes, at),
        Some(_) => fail(at, "expected a value"),
        None => fail(at, "the text ends too early"),
    }
}

fn skip_literal(bytes: &[u8], at: usize, literal: &[u8]) -> Scan<usize> {
    if bytes[at..].starts_with(literal) { Ok(at + literal.len()) } else { fail(at, "expected a value") }
}

fn skip_container(bytes: &[u8], at: usize, close: u8, depth: u32) -> Scan<usize> {
    if depth >= DEPTH_MAX {
        return fail(at, "nested too deeply");
    }
    let mut at = skip_blanks(bytes, at + 1);
    if bytes.get(at) == Some(&close) {
        return Ok(at + 1);
    }
    loop {
        if close == b'}' {
            if bytes.get(at) != Some(&b'"') {
                return fail(at, "expected a member name");
            }
            at = skip_blanks(bytes, skip_string(bytes, at)?);
            if bytes.get(at) != Some(&b':') {
                return fail(at, "expected a colon");
            }
            at = skip_blanks(bytes, at + 1);
        }
        at = skip_blanks(bytes, skip_value(bytes, at, depth + 1)?);
        match bytes.get(at) {
            Some(b',') => at = skip_blanks(bytes, at + 1),
            Some(&byte) if byte == close => return Ok(at + 1),
            Some(_) => return fail(at, "expected a comma or the end of the container"),
            None => return fail(at, "the text ends too early"),
        }
    }
}

fn skip_digits(bytes: &[u8], at: usize) -> Scan<usize> {
    let mut end = at;
    while let Some(b'0'..=b'9') = bytes.get(end) {
        end += 1;
    }
    if end == at { fail(at, "expected a digit") } else { Ok(end) }
}

fn skip_number(bytes: &[u8], mut at: usize) -> Scan<usize> {
    if bytes[at] == b'-' {
        at += 1;
    }
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { skip_digits(bytes, at)? };
    if bytes.get(at) == Some(&b'.') {
        at = skip_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = skip_digits(bytes, at)?;
    }
    Ok(at)
}

/// The first position at or after `at` whose byte is a quote, a backslash or a control character, eight bytes at a time.
fn next_special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let (chunks, _) = bytes.get(at..).unwrap_or(&[]).as_chunks::<8>();
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * 0x22);
        let slash = word ^ (ONES * 0x5c);
        // A borrow can only spoil bytes above a genuine match, and the lowest match is the one used.
        let hits = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let hits = hits & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte != b'"' && byte != b'\\' && byte >= 0x20) {
        at += 1;
    }
    at
}

fn skip_string(bytes: &[u8], at: usize) -> Scan<usize> {
    let mut at = at + 1;
    loop {
        at = next_special(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') if hex_unit(bytes, at + 2).is_some() => at += 6,
                _ => return fail(at, "invalid escape"),
            },
            Some(_) => return fail(at, "control character in a string"),
            None => return fail(at, "the text ends inside a string"),
        }
    }
}

fn hex_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0_u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).expect("a hex digit is below 16"))
    })
}

/// The content of the JSON string `raw` (quotes included). Fails on a lone surrogate, which Unicode text cannot hold.
pub(super) fn decode_string(raw: &str) -> Scan<Cow<'_, str>> {
    let bytes = raw.as_bytes();
    let inner = 1..bytes.len().saturating_sub(1);
    if !bytes.contains(&b'\\') {
        return Ok(Cow::Borrowed(&raw[inner]));
    }
    let mut content = String::with_capacity(raw.len());
    let mut at = 1;
    while at < inner.end {
        let special = next_special(bytes, at).min(inner.end);
        content.push_str(&raw[at..special]);
        at = special;
        if at == inner.end {
            break;
        }
        match bytes.get(at + 1) {
            Some(b'b') => content.push('\u{8}'),
            Some(b'f') => content.push('\u{c}'),
            Some(b'n') => content.push('\n'),
            Some(b'r') => content.push('\r'),
            Some(b't') => content.push('\t'),
            Some(b'u') => {
                let (unit, next) = decode_unit(bytes, at)?;
                content.push(unit);
                at = next;
                continue;
            }
            Some(&byte @ (b'"' | b'\\' | b'/')) => content.push(char::from(byte)),
            _ => return fail(at, "invalid escape"),
        }
        at += 2;
    }
    Ok(Cow::Owned(content))
}

fn decode_unit(bytes: &[u8], at: usize) -> Scan<(char, usize)> {
    let Some(first) = hex_unit(bytes, at + 2) else { return fail(at, "invalid escape") };
    if let Some(single) = char::from_u32(u32::from(first)) {
        return Ok((single, at + 6));
    }
    let second = if bytes.get(at + 6..at + 8) == Some(b"\\u") { hex_unit(bytes, at + 8) } else { None };
    let units = [first, second.unwrap_or(0)];
    match char::decode_utf16(units).next() {
        Some(Ok(pair)) => Ok((pair, at + 12)),
        Some(Err(_)) | None => fail(at, "a lone surrogate"),
    }
}

/// Appends `content` as a JSON string with the escapes that JavaScript's serialiser uses.
pub(super) fn write_string(out: &mut String, content: &str) {
    out.push('"');
    let bytes = content.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let special = next_special(bytes, at);
        out.push_str(&content[at..special]);
        at = special;
        if let Some(&byte) = bytes.get(at) {
            write_escaped(out, byte);
            at += 1;
        }
    }
    out.push('"');
}

fn write_escaped(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        _ => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.push_str("\\u00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Appends one member of an object being written: a comma unless it is the first, the name, a colon.
pub(super) fn write_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    write_string(out, name);
    out.push(':');
}

/// Appends the valid JSON `raw` as JavaScript would print it again: no blanks, its own choice of string escapes.
/// Number forms and the order of members stay.
pub(super) fn write_compact(out: &mut String, raw: &str) {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = skip_string(bytes, at).expect("the value was validated before");
                write_compact_string(out, &raw[at..end]);
                at = end;
            }
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            _ => {
                out.push(char::from(byte));
                at += 1;
            }
        }
    }
}

fn write_compact_string(out: &mut String, raw: &str) {
    if !raw.as_bytes().windows(2).any(|pair| pair == b"\\u" || pair == b"\\/") {
        out.push_str(raw);
    } else if let Ok(content) = decode_string(raw) {
        write_string(out, &content);
    } else {
        // Holds a lone surrogate, which only an escape can spell.
        out.push_str(raw);
    }
}

/// Appends the canonical form of the valid JSON `raw`: members sorted by name with the last of duplicates, numbers by their
/// value as the double that every other party takes them for, strings by content.
pub(super) fn write_canonical(out: &mut String, raw: &str) {
    if let Some(members) = Members::of(raw) {
        let mut sorted: Vec<(Cow<'_, str>, &str)> = Vec::new();
        for (name, value) in members.filter_map(Result::ok) {
            sorted.push((decode_string(name).unwrap_or(Cow::Borrowed(name)), value));
        }
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        for (index, (name, value)) in sorted.iter().enumerate() {
            if sorted.get(index + 1).is_none_or(|next| next.0 != *name) {
                write_name(out, name);
                write_canonical(out, value);
            }
        }
        out.push('}');
    } else if let Some(values) = elements(raw) {
        out.push('[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_canonical(out, value);
        }
        out.push(']');
    } else if raw.starts_with('"') {
        match decode_string(raw) {
            Ok(content) => write_string(out, &content),
            Err(_) => out.push_str(raw),
        }
    } else {
        match raw.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                use std::fmt::Write as _;
                // Adding zero turns -0 into 0.
                write!(out, "{}", number + 0.0).expect("writing to a string cannot fail");
            }
            _ => out.push_str(raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        write_canonical(&mut out, check(text).expect("test text is valid"));
        out
    }

    #[test]
    fn canonical_form_ignores_order_blanks_escapes_and_number_forms() {
        let one = canonical(r#" {"b": [1.0, 2e1, -0], "a": "\u00e9\/x", "c": 1} "#);
        let two = canonical(r#"{"a":"é/x","c":1.00,"b":[1,20,0]}"#);
        assert_eq!(one, two);
        assert_ne!(one, canonical(r#"{"a":"é/x","c":1,"b":[20,1,0]}"#));
    }

    #[test]
    fn the_last_of_duplicate_members_counts_in_the_canonical_form() {
        assert_eq!(canonical(r#"{"a":1,"a":2}"#), r#"{"a":2}"#);
    }

    #[test]
    fn lone_surrogates_are_refused_by_decode_but_kept_as_text() {
        assert!(decode_string(r#""\ud800""#).is_err());
        assert!(decode_string(r#""\ud800\u0041""#).is_err());
        assert_eq!(decode_string(r#""\ud83d\ude00""#).expect("a pair"), "😀");
        let mut out = String::new();
        write_compact(&mut out, r#"["\ud800"]"#);
        assert_eq!(out, r#"["\ud800"]"#);
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_overflowing() {
        let text = "[".repeat(100_000);
        assert_eq!(check(&text).expect_err("too deep").reason, "nested too deeply");
    }

    #[test]
    fn control_characters_are_escaped_as_javascript_does() {
        let mut out = String::new();
        write_string(&mut out, "\u{0}\u{1f}\u{7f}\n\"\\é");
        assert_eq!(out, "\"\\u0000\\u001f\u{7f}\\n\\\"\\\\é\"");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn accepts_what_serde_accepts(value in json()) {
            let text = value.to_string();
            prop_assert_eq!(check(&text), Ok(text.as_str()));
            let mut compact = String::new();
            write_compact(&mut compact, &serde_json::to_string_pretty(&value).expect("a value prints"));
            prop_assert_eq!(compact, text);
        }

        #[test]
        fn refuses_what_serde_refuses(value in json(), cut in any::<prop::sample::Index>(), with in "[ -~]{0,2}") {
            let mut text: Vec<char> = value.to_string().chars().collect();
            let at = cut.index(text.len());
            text.splice(at..=at, with.chars());
            let text: String = text.into_iter().collect();
            let serde = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(check(&text).is_ok(), serde, "{}", text);
        }

        #[test]
        fn strings_survive_a_round_trip(content in any::<String>()) {
            let mut out = String::new();
            write_string(&mut out, &content);
            prop_assert_eq!(&out, &serde_json::to_string(&content).expect("a string prints"));
            prop_assert_eq!(decode_string(&out).expect("just written"), content);
        }
    }
}
