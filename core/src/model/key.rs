//! Metadata keys as journals and stores write them, and keys of queue messages.

use crate::id::{Bucket, ObjectKey};

/// Between an object key and a version id in a metadata key.
pub const VERSION_SEPARATOR: char = '\0';
/// The bucket whose keys are the buckets themselves.
pub const USERS_BUCKET: &str = "users..bucket";
/// What the names of the buckets that hold multipart uploads in progress start with.
pub const MPU_BUCKET_PREFIX: &str = "mpuShadowBucket";
/// The pseudo bucket that holds the attributes of buckets.
pub const METASTORE: &str = "__metastore";
/// Between owner and bucket name in a key of [`USERS_BUCKET`].
pub const USERS_BUCKET_SEPARATOR: &str = "..|..";

/// A stored key without the prefix that the v1 key format puts before master (`DEL M`) and version keys (`DEL V`).
/// Keys of the v0 format and replay keys (`DEL R`) stay as they are (wire reference 3.3).
pub fn strip_format_prefix(stored: &str) -> &str {
    stored.strip_prefix("\u{7f}M").or_else(|| stored.strip_prefix("\u{7f}V")).unwrap_or(stored)
}

/// The object key in a metadata key: what comes before the first separator.
pub fn object_key(metadata_key: &str) -> &str {
    metadata_key.split_once(VERSION_SEPARATOR).map_or(metadata_key, |(key, _)| key)
}

/// The raw version id in a metadata key, if it has a separator. It is empty in the null key of the null-key scheme.
pub fn version_suffix(metadata_key: &str) -> Option<&str> {
    metadata_key.split_once(VERSION_SEPARATOR).map(|(_, version)| version)
}

/// Whether the key names the current version (no separator in it) rather than a particular one.
pub fn is_master(metadata_key: &str) -> bool {
    !metadata_key.contains(VERSION_SEPARATOR)
}

/// The metadata key of one version.
pub fn version_key(key: &ObjectKey, version: &str) -> String {
    let key = key.as_str();
    let mut out = String::with_capacity(key.len() + 1 + version.len());
    out.push_str(key);
    out.push(VERSION_SEPARATOR);
    out.push_str(version);
    out
}

/// Percent-encodes as JavaScript's `encodeURIComponent`: it decides the partition of a message, so it must not change
/// (replication reference 2.7).
pub fn encode_uri_component(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    encode_uri_component_into(&mut out, text);
    out
}

fn encode_uri_component_into(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    /// Whether a byte stays as it is.
    const STAYS: [bool; 256] = {
        let mut stays = [false; 256];
        let mut byte = 0_u8;
        while byte < 128 {
            stays[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')');
            byte += 1;
        }
        stays
    };
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let run = bytes[at..].iter().position(|&byte| !STAYS[usize::from(byte)]);
        let Some(run) = run else { break out.push_str(&text[at..]) };
        // Only ASCII stays, so what stays begins and ends where characters do.
        if run > 0 {
            out.push_str(&text[at..at + run]);
        }
        let byte = bytes[at + run];
        let encoded = [b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        out.extend(encoded.map(char::from));
        at += run + 1;
    }
}

/// The queue key of every message about an object: all of its versions land in one partition.
pub fn queue_key(bucket: &Bucket, key: &ObjectKey) -> String {
    queue_key_of(bucket.as_str(), key.as_str())
}

pub(super) fn queue_key_of(bucket: &str, key: &str) -> String {
    let mut out = String::with_capacity(bucket.len() + key.len() + key.len() / 4 + 3);
    encode_uri_component_into(&mut out, bucket);
    out.push_str("%2F");
    encode_uri_component_into(&mut out, key);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_master_and_version_prefixes_are_stripped() {
        assert_eq!(strip_format_prefix("\u{7f}Ma"), "a");
        assert_eq!(strip_format_prefix("\u{7f}Va\0v"), "a\0v");
        assert_eq!(strip_format_prefix("\u{7f}Ra"), "\u{7f}Ra");
        assert_eq!(strip_format_prefix("Mabc"), "Mabc");
        assert_eq!(strip_format_prefix("\u{7f}M\u{7f}Ma"), "\u{7f}Ma");
    }

    #[test]
    fn a_key_splits_at_its_first_separator() {
        assert_eq!((object_key("a\0b\0c"), version_suffix("a\0b\0c")), ("a", Some("b\0c")));
        assert_eq!((object_key("a"), version_suffix("a")), ("a", None));
        assert!(is_master("") && !is_master("\0"));
    }

    fn naive(text: &str) -> String {
        let keep = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()";
        let mut out = String::new();
        for c in text.chars() {
            if keep.contains(c) {
                out.push(c);
            } else {
                for byte in c.to_string().bytes() {
                    out.push_str(&["%", &format!("{byte:02X}")].concat());
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn percent_encoding_equals_the_naive_one(bucket in any::<String>(), key in any::<String>()) {
            prop_assert_eq!(encode_uri_component(&key), naive(&key));
            let both = naive(&format!("{bucket}/{key}"));
            prop_assert_eq!(queue_key(&bucket.into(), &key.into()), both);
        }
    }
}
