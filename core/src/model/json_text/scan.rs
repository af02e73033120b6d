//! Passing over values, byte by byte, validating them.

use super::{DEPTH_MAX, Scan, fail};

pub(in crate::model) fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

pub(super) fn skip_value(bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
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
pub(super) fn next_special(bytes: &[u8], mut at: usize) -> usize {
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

pub(super) fn skip_string(bytes: &[u8], at: usize) -> Scan<usize> {
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

pub(super) fn hex_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0_u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).expect("a hex digit is below 16"))
    })
}
