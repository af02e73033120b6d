//! Order-independent digests of JSON members: what revisions and fingerprints are made of.
//!
//! A member's digest depends on its name and on the value, whatever its spelling: blanks, escapes, the order of nested members
//! and number forms do not count. The digest of a set of members is the sum of theirs, so no document has to be written out,
//! sorted or parsed again to be named.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use super::json_text::{decode_string, write_canonical};

/// A digest at rest: aligned like a word, because allocators serve what needs more alignment more slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stored([u64; 2]);

/// A word that is computed when it is first asked for. Whoever computes it gets the same, so nobody has to wait for anybody.
#[derive(Debug, Default)]
pub(super) struct Lazy(AtomicU64);

impl Lazy {
    /// The word; `compute` says which one it is.
    pub(super) fn get(&self, compute: impl FnOnce() -> u64) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            0 => {
                let word = compute();
                self.0.store(word, Ordering::Relaxed);
                word
            }
            word => word,
        }
    }
}

impl Clone for Lazy {
    fn clone(&self) -> Self {
        Self(self.0.load(Ordering::Relaxed).into())
    }
}

impl From<u128> for Stored {
    fn from(digest: u128) -> Self {
        let low = u128::from(u64::MAX);
        let word = |half: u128| u64::try_from(half).expect("64 bits");
        Self([word(digest >> 64), word(digest & low)])
    }
}

impl From<Stored> for u128 {
    fn from(Stored([high, low]): Stored) -> Self {
        Self::from(high) << 64 | Self::from(low)
    }
}

/// Keeps a string apart from the number or literal that is spelled alike.
const STRING: u64 = 0x9e37_79b9_7f4a_7c15;

/// The digest of a member whose value is the valid JSON `raw`.
pub(super) fn member(name: &str, raw: &str) -> u128 {
    let bytes = raw.as_bytes();
    match bytes.first() {
        // What has no escapes is its own content.
        Some(b'"') if !bytes.contains(&b'\\') => text(name, &raw[1..raw.len() - 1]),
        Some(b'"') => match decode_string(raw) {
            Ok(content) => text(name, &content),
            // Holds a lone surrogate, which only its spelling can tell.
            Err(_) => value(name, bytes),
        },
        Some(b'{' | b'[') if bytes.len() > 2 => canonical(name, raw),
        Some(b'-' | b'0'..=b'9') if !is_plain_integer(bytes) => canonical(name, raw),
        _ => value(name, bytes),
    }
}

/// What a member adds to a digest if `default` is what stands for it where it is missing.
pub(super) fn member_unless(default: Option<&str>, name: &str, raw: &str) -> u128 {
    if default == Some(raw) {
        return 0;
    }
    let digest = member(name, raw);
    // A default may be spelled in another way, but no text without escapes is.
    let is_plain_text = || raw.starts_with('"') && !raw.contains('\\');
    let is_default = |default| !is_plain_text() && digest == member(name, default);
    if default.is_some_and(is_default) { 0 } else { digest }
}

/// The digest of a member whose value is the string `content`.
pub(super) fn text(name: &str, content: &str) -> u128 {
    xxh3_128_with_seed(content.as_bytes(), xxh3_64(name.as_bytes()) ^ STRING)
}

/// The digest of a member whose value is the non-negative integer `number`.
pub(super) fn number(name: &str, number: u64) -> u128 {
    member(name, &number.to_string())
}

fn canonical(name: &str, raw: &str) -> u128 {
    if is_canonical_pair(raw) {
        return value(name, raw.as_bytes());
    }
    let mut text = String::with_capacity(raw.len());
    write_canonical(&mut text, raw);
    value(name, text.as_bytes())
}

/// Whether `raw`, which is valid, is an object with a single member, a string, in its canonical spelling: what tags mostly are.
fn is_canonical_pair(raw: &str) -> bool {
    let inside = raw.strip_prefix("{\"").and_then(|rest| rest.strip_suffix("\"}"));
    let pair = inside.and_then(|inside| inside.split_once("\":\""));
    let is_plain = |text: &str| text.bytes().all(|byte| byte != b'"' && byte != b'\\');
    pair.is_some_and(|(name, value)| is_plain(name) && is_plain(value))
}

fn value(name: &str, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, xxh3_64(name.as_bytes()))
}

/// An integer that every reader takes for the same number, spelled in the only way there is.
fn is_plain_integer(bytes: &[u8]) -> bool {
    bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json_text::check;
    use proptest::prelude::*;

    fn of(raw: &str) -> u128 {
        member("m", check(raw).expect("test text is valid"))
    }

    #[test]
    fn spelling_does_not_count_and_values_do() {
        for (one, two) in [
            (r#""\u0061\/""#, r#""a/""#),
            ("1.0", "1"),
            ("2e1", "20"),
            (r#"{"a":1,"b":[ 1 , 2]}"#, r#"{"b":[1,2],"a":1.0}"#),
            ("100000000000000000000", "1e20"),
        ] {
            assert_eq!(of(one), of(two), "{one} {two}");
        }
        for (one, two) in [("1", "\"1\""), ("null", "\"null\""), ("[1,2]", "[2,1]"), ("{}", "[]"), ("0", "1")]
        {
            assert_ne!(of(one), of(two), "{one} {two}");
        }
        assert_ne!(member("a", "1"), member("b", "1"));
    }

    proptest! {
        #[test]
        fn a_canonical_pair_is_its_own_canonical_form(
            name in "[a-z\\\\\"é:{},]{0,4}",
            content in "[a-z \\\\\"é:{},]{0,6}",
            blank in " ?",
        ) {
            let (name, content) = (serde_json::Value::from(name), serde_json::Value::from(content));
            let raw = format!("{{{name}:{blank}{content}}}");
            let mut canonical = String::new();
            write_canonical(&mut canonical, &raw);
            prop_assert!(!is_canonical_pair(&raw) || canonical == raw, "{} {}", raw, canonical);
            prop_assert_eq!(of(&raw), of(&canonical));
        }

        #[test]
        fn typed_values_and_their_spellings_agree(content in any::<String>(), integer in any::<u32>()) {
            let raw = serde_json::Value::from(content.as_str()).to_string();
            prop_assert_eq!(text("n", &content), member("n", &raw));
            prop_assert_eq!(number("n", integer.into()), member("n", &integer.to_string()));
        }
    }
}
