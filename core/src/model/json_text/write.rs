//! Writing values: members, and the compact and canonical forms of what was read.

use std::borrow::Cow;

use super::scan::skip_string;
use super::{Members, decode_string, elements, write_string};

/// Appends one member of an object being written: a comma unless it is the first, the name, a colon.
pub(in crate::model) fn write_name(out: &mut String, name: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    write_string(out, name);
    out.push(':');
}

/// As [`write_name`], with a name that needs no escapes.
pub(in crate::model) fn write_plain_name(out: &mut String, name: &str) {
    out.push_str(if out.ends_with('{') { "\"" } else { ",\"" });
    out.push_str(name);
    out.push_str("\":");
}

/// As [`write_name`], with a name that is already quoted and has its colon.
pub(in crate::model) fn write_quoted_name(out: &mut String, quoted: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    out.push_str(quoted);
}

/// Appends the valid JSON `raw` as JavaScript would print it again: no blanks, its own choice of string escapes.
/// Number forms and the order of members stay.
pub(in crate::model) fn write_compact(out: &mut String, raw: &str) {
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
pub(in crate::model) fn write_canonical(out: &mut String, raw: &str) {
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
