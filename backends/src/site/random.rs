//! What only has to be unique: digits and UUIDs out of the operating system's randomness.

use super::error::Outcome;
use std::io;

/// Random hexadecimal digits from the operating system.
pub(super) fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hex::encode(bytes))
}

/// A version 4 UUID.
pub(super) fn uuid() -> Outcome<String> {
    let hex = random_hex::<16>()?;
    let variant = ["8", "9", "a", "b"][usize::from(hex.as_bytes()[16] & 3)];
    Ok(format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]))
}
