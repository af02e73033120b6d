//! Strings: their content, and their spelling.

use std::borrow::Cow;

use super::scan::{hex_unit, next_special};
use super::{Scan, fail};

/// The content of the JSON string `raw` (quotes included). Fails on a lone surrogate, which Unicode text cannot hold.
pub(in crate::model) fn decode_string(raw: &str) -> Scan<Cow<'_, str>> {
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
pub(in crate::model) fn write_string(out: &mut String, content: &str) {
    let bytes = content.as_bytes();
    out.reserve(content.len() + 2);
    out.push('"');
    let mut at = 0;
    loop {
        let special = next_special(bytes, at);
        out.push_str(&content[at..special]);
        let Some(&byte) = bytes.get(special) else { break };
        write_escaped(out, byte);
        at = special + 1;
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
