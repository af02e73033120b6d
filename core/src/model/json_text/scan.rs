//! Passing over values, byte by byte, validating them.

use super::{DEPTH_MAX, Scan, fail};

/// How the quotes of strings are spelled in a text.
pub(in crate::model) trait Quotes {
    /// A quote.
    const QUOTE: &'static [u8];

    /// Passes over the string whose opening quote is at `at`.
    fn skip_string(bytes: &[u8], at: usize) -> Scan<usize>;

    /// As [`Self::skip_string`]; also says whether what is between the quotes is the content.
    fn skip_plain(bytes: &[u8], at: usize) -> Scan<(usize, bool)>;
}

/// Quotes as every document has them.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Bare;

impl Quotes for Bare {
    const QUOTE: &'static [u8] = b"\"";

    #[inline]
    fn skip_string(bytes: &[u8], at: usize) -> Scan<usize> {
        skip_string(bytes, at)
    }

    #[inline]
    fn skip_plain(bytes: &[u8], at: usize) -> Scan<(usize, bool)> {
        let first = next_special(bytes, at + 1);
        let is_plain = bytes.get(first) == Some(&b'"');
        Ok((if is_plain { first + 1 } else { skip_string(bytes, at)? }, is_plain))
    }
}

/// Quotes of a document within a string that has no escapes but for them: a backslash stands before every quote and nowhere
/// else. So the document can be read as it lies there, and none of its strings has an escape.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Escaped;

impl Quotes for Escaped {
    const QUOTE: &'static [u8] = b"\\\"";

    #[inline]
    fn skip_string(bytes: &[u8], at: usize) -> Scan<usize> {
        let end = next_backslash(bytes, at + 2);
        if end < bytes.len() { Ok(end + 2) } else { fail(end, "the text ends inside a string") }
    }

    #[inline]
    fn skip_plain(bytes: &[u8], at: usize) -> Scan<(usize, bool)> {
        Ok((Self::skip_string(bytes, at)?, true))
    }
}

#[inline]
pub(in crate::model) fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    // Mostly there are none: one comparison says so.
    while let Some(&byte) = bytes.get(at)
        && byte <= b' '
        && matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
    {
        at += 1;
    }
    at
}

pub(super) fn skip_value<Q: Quotes>(bytes: &[u8], at: usize, depth: u32) -> Scan<usize> {
    match bytes.get(at) {
        Some(&byte) if byte == Q::QUOTE[0] => Q::skip_string(bytes, at),
        Some(b'{') => skip_container::<Q>(bytes, at, b'}', depth),
        Some(b'[') => skip_container::<Q>(bytes, at, b']', depth),
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

fn skip_container<Q: Quotes>(bytes: &[u8], at: usize, close: u8, depth: u32) -> Scan<usize> {
    if depth >= DEPTH_MAX {
        return fail(at, "nested too deeply");
    }
    let mut at = skip_blanks(bytes, at + 1);
    if bytes.get(at) == Some(&close) {
        return Ok(at + 1);
    }
    loop {
        if close == b'}' {
            if bytes.get(at) != Some(&Q::QUOTE[0]) {
                return fail(at, "expected a member name");
            }
            at = skip_blanks(bytes, Q::skip_string(bytes, at)?);
            if bytes.get(at) != Some(&b':') {
                return fail(at, "expected a colon");
            }
            at = skip_blanks(bytes, at + 1);
        }
        at = skip_blanks(bytes, skip_value::<Q>(bytes, at, depth + 1)?);
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

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The eight bytes at `at`, the first one lowest.
#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// The first position at or after `at` whose byte is a quote, a backslash or a control character, eight bytes at a time.
#[inline]
pub(super) fn next_special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        // A borrow can only spoil bytes above a genuine match, and the lowest match is the one used. What has the high bit set
        // is none of the three.
        let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
        let slash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
        let control = word.wrapping_sub(ONES * 0x20);
        let hits = (quote | slash | control) & !word & HIGHS;
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

/// The first position at or after `at` whose byte is a backslash.
#[inline]
pub(super) fn next_backslash(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(bytes, at) {
        let hits = (word ^ (ONES * 0x5c)).wrapping_sub(ONES) & !word & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes.get(at).is_some_and(|&byte| byte != b'\\') {
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

/// The position behind the string whose opening quote is at `at`, if it has no escapes but for quotes.
pub(super) fn skip_quoting_string(bytes: &[u8], at: usize) -> Option<usize> {
    const BLOCK: usize = 32;
    // Whether a byte is anything but the content of such a string: a quote exactly where a backslash precedes is.
    let is_odd = |before: u8, byte: u8| (byte == b'"') != (before == b'\\') || byte < b' ';
    let (mut before, mut bytes_left) = (bytes.get(at..)?, bytes.get(at + 1..)?);
    // All of a block is looked at in either case, so that the compiler can look at many bytes at once.
    while let (Some(befores), Some(block)) =
        (before.first_chunk::<BLOCK>(), bytes_left.first_chunk::<BLOCK>())
        && !befores.iter().zip(block).fold(false, |odd, (&before, &byte)| odd | is_odd(before, byte))
    {
        (before, bytes_left) = (&before[BLOCK..], &bytes_left[BLOCK..]);
    }
    let odd = before.iter().zip(bytes_left).position(|(&before, &byte)| is_odd(before, byte))?;
    (bytes_left[odd] == b'"').then(|| bytes.len() - bytes_left.len() + odd + 1)
}

pub(super) fn hex_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0_u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).expect("a hex digit is below 16"))
    })
}
