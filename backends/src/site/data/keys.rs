//! Data keys: what data of a site is called, in its store and in its folder of files.

use crate::site::random::random_hex;
use std::io;
use std::time::SystemTime;

/// True if a text is a data key of this site: 40 hexadecimal digits.
pub(super) fn is_data_key(key: &str) -> bool {
    key.len() == 40 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A new key for data in the store. Those of one time lie side by side, so that a commit touches few pages.
pub(super) fn key_in_store() -> io::Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Ok(format!("{}{}", hex::encode(&ms.to_be_bytes()[2..]), random_hex::<14>()?))
}
