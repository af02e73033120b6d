//! Version ids: the raw internal form, and the encoded form that S3 clients and the internal routes use.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayString;

/// Length in characters of a raw id without an info suffix: the only length that is encoded in base 62.
const PLAIN_LENGTH: usize = 27;
/// Length in characters of a base 62 encoded id.
const BASE62_LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Why a text is not an encoded version id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionIdError {
    /// Fewer than 32 characters.
    #[error("encoded version id of {0} characters is too short: 32 or more are needed")]
    TooShort(usize),
    /// A character outside the alphabet.
    #[error("encoded version id holds a character that is neither a digit nor a letter")]
    NotBase62,
    /// The decoded id does not have the length of a raw id.
    #[error("encoded version id does not decode to a raw id of 27 characters")]
    WrongLength,
    /// Nothing could be decoded.
    #[error("encoded version id holds no hexadecimal digits")]
    Empty,
}

/// The raw internal id of one version: 14 digits (99999999999999 minus milliseconds since the epoch), 6 digits (999999 minus
/// the rank in that millisecond), a replication group of 7 characters, and a free info suffix (wire reference 3.1).
///
/// The order is the order of the characters, so a **newer** version is **smaller** than an older one.
#[derive(Clone)]
pub struct VersionId(Text);

/// The text of an id: in place where it has the usual length, so that nothing is counted when it is copied.
#[derive(Clone)]
enum Text {
    Short(ArrayString<PLAIN_LENGTH>),
    Long(Arc<str>),
}

impl PartialEq for VersionId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for VersionId {}

impl PartialOrd for VersionId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VersionId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for VersionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl VersionId {
    /// The id of the version written at `epoch_ms` as number `seq` of that millisecond by replication group `group`.
    /// `epoch_ms` and `seq` saturate at the largest value that the format holds.
    pub fn new(epoch_ms: u64, seq: u32, group: &str, info: &str) -> Self {
        let time = 99_999_999_999_999_u64.saturating_sub(epoch_ms);
        let rank = 999_999_u32.saturating_sub(seq);
        Self::from(format!("{time:014}{rank:06}{}{info}", padded_group(group)))
    }

    /// The id given to what was written before versioning: larger, hence older, than every other id of its group.
    pub fn infinite(group: &str) -> Self {
        Self::from(format!("99999999999999999999{}", padded_group(group)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }

    /// The form used in requests and answers: base 62 for an id of exactly 27 characters, else hexadecimal.
    pub fn encode(&self) -> String {
        if self.as_str().encode_utf16().count() == PLAIN_LENGTH { self.to_base62() } else { self.to_hex() }
    }

    /// The raw id behind an encoded one. The literal `null` is not an id: see [`super::VersionRef`].
    pub fn decode(encoded: &str) -> Result<Self, VersionIdError> {
        match encoded.encode_utf16().count() {
            BASE62_LENGTH => Self::from_base62(encoded),
            length if length > BASE62_LENGTH => Self::from_hex(encoded),
            length => Err(VersionIdError::TooShort(length)),
        }
    }

    /// Lower-case hexadecimal of the UTF-8 bytes.
    pub fn to_hex(&self) -> String {
        use fmt::Write as _;
        self.as_str().bytes().fold(String::with_capacity(self.as_str().len() * 2), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
            hex
        })
    }

    /// Reads [`Self::to_hex`] leniently, as upstream does: reading stops at the first pair that is not hexadecimal, and bytes
    /// that are no UTF-8 become replacement characters.
    pub fn from_hex(hex: &str) -> Result<Self, VersionIdError> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let bytes: Vec<u8> = hex
            .as_bytes()
            .chunks_exact(2)
            .map_while(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
            .map(|byte| u8::try_from(byte).expect("two hex digits make a byte"))
            .collect();
        if bytes.is_empty() {
            return Err(VersionIdError::Empty);
        }
        Ok(Self::from(&*String::from_utf8_lossy(&bytes)))
    }

    /// The 32 characters of the base 62 form. Meant for ids of 27 characters; an id whose first twenty are not digits is
    /// encoded as if those digits were zero.
    pub fn to_base62(&self) -> String {
        let id = self.as_str();
        let digits = |range| id.get(range).and_then(|digits: &str| digits.parse::<u64>().ok()).unwrap_or(0);
        let rest = id.get(20..).unwrap_or("");
        let tail =
            rest.bytes().fold(0_u128, |number, byte| number.wrapping_mul(256).wrapping_add(byte.into()));
        let mut encoded = [b'0'; BASE62_LENGTH];
        base62(&mut encoded[..6], digits(0..10).into());
        base62(&mut encoded[6..12], digits(10..20).into());
        let mut rest = base62(&mut encoded[12..], tail);
        let text = std::str::from_utf8(&encoded).expect("digits and letters");
        let mut text = text.to_owned();
        // A tail of more than 20 digits, which no id of this engine's sites has, makes the text longer.
        while rest > 0 {
            let mut digit = [b'0'];
            rest = base62(&mut digit, rest);
            text.insert(12, char::from(digit[0]));
        }
        text
    }

    /// Reads [`Self::to_base62`].
    pub fn from_base62(encoded: &str) -> Result<Self, VersionIdError> {
        if !encoded.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(VersionIdError::NotBase62);
        }
        if encoded.len() != BASE62_LENGTH {
            return Err(VersionIdError::WrongLength);
        }
        let time = unbase62(&encoded[..6]).ok_or(VersionIdError::WrongLength)?;
        let rank = unbase62(&encoded[6..12]).ok_or(VersionIdError::WrongLength)?;
        let tail = unbase62(&encoded[12..]).ok_or(VersionIdError::WrongLength)?;
        let tail: Vec<u8> = tail.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
        let id = format!("{time:010}{rank:010}{}", String::from_utf8_lossy(&tail));
        if id.encode_utf16().count() == PLAIN_LENGTH {
            Ok(Self::from(id))
        } else {
            Err(VersionIdError::WrongLength)
        }
    }
}

impl<T: AsRef<str> + Into<Arc<str>>> From<T> for VersionId {
    fn from(raw: T) -> Self {
        Self(match ArrayString::from(raw.as_ref()) {
            Ok(text) => Text::Short(text),
            Err(_) => Text::Long(raw.into()),
        })
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn padded_group(group: &str) -> String {
    let cut: String = group.chars().take(7).collect();
    format!("{cut:<7}")
}

/// Fills `place` with the lowest digits of `number` from the right; returns what does not fit.
fn base62(place: &mut [u8], number: u128) -> u128 {
    let digit = |value: u64| ALPHABET[usize::try_from(value % 62).expect("a remainder below 62")];
    let mut slots = place.iter_mut().rev();
    let mut wide = number;
    while wide > u128::from(u64::MAX) {
        let Some(slot) = slots.next() else { return wide };
        *slot = digit(u64::try_from(wide % 62).expect("a remainder below 62"));
        wide /= 62;
    }
    let mut number = u64::try_from(wide).expect("64 bits");
    while number > 0 {
        let Some(slot) = slots.next() else { return number.into() };
        *slot = digit(number);
        number /= 62;
    }
    0
}

fn unbase62(text: &str) -> Option<u128> {
    text.bytes().try_fold(0_u128, |number, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        number.checked_mul(62)?.checked_add(u128::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn newer_versions_are_smaller() {
        let older = VersionId::new(1_718_000_000_000, 0, "RG001", "");
        let newer = VersionId::new(1_718_000_000_001, 0, "RG001", "");
        let same_ms = VersionId::new(1_718_000_000_001, 1, "RG001", "");
        assert!(same_ms < newer && newer < older && older < VersionId::infinite("RG001"));
    }

    #[test]
    fn known_ids_encode_as_published() {
        let plain = VersionId::from("98281999999999999999RG001  ");
        assert_eq!(plain.encode(), "aJ87MPaUKYOz00000000001I4j3QKItW");
        let info = VersionId::from("98500086134471999999RG001  0");
        assert_eq!(info.encode(), "39383530303038363133343437313939393939395247303031202030");
        assert_eq!(VersionId::infinite("RG001").encode(), "aUKYOzaUKYOz00000000001I4j3QKItW");
    }

    #[test]
    fn wrong_texts_are_refused() {
        assert_eq!(VersionId::decode("null"), Err(VersionIdError::TooShort(4)));
        assert_eq!(VersionId::decode("wHtI53.S4ApsYLRI5VZZ3Iw.7ny4NgQz"), Err(VersionIdError::NotBase62));
        assert_eq!(VersionId::decode("aJLWKz4Ko9IjBBgXKj5KQT2G9UHv0g7P"), Err(VersionIdError::WrongLength));
        assert_eq!(VersionId::decode(&"z".repeat(40)), Err(VersionIdError::Empty));
    }

    #[test]
    fn a_tail_of_many_bytes_makes_the_text_longer() {
        let id = VersionId::from(format!("98200000000000999999{}", "\u{ffff}".repeat(7)).as_str());
        let tail = format!("{:0>20}", naive_base62("\u{ffff}".repeat(7).bytes()));
        assert!(tail.len() > 20, "{tail}");
        assert!(id.to_base62().ends_with(&tail), "{} {tail}", id.to_base62());
    }

    fn naive_base62(bytes: impl Iterator<Item = u8>) -> String {
        let mut number =
            bytes.fold(0_u128, |number, byte| number.wrapping_mul(256).wrapping_add(byte.into()));
        let mut digits = Vec::new();
        while number > 0 {
            digits.push(ALPHABET[usize::try_from(number % 62).expect("below 62")]);
            number /= 62;
        }
        digits.iter().rev().map(|&digit| char::from(digit)).collect()
    }

    proptest! {
        #[test]
        fn every_id_survives_encoding(ms in 0_u64..4_000_000_000_000, seq in 0_u32..1_000_000,
                                      group in "[A-Z0-9]{1,7}", info in "[a-z0-9. ]{0,20}") {
            let id = VersionId::new(ms, seq, &group, &info);
            prop_assert_eq!(VersionId::decode(&id.encode()), Ok(id));
        }

        #[test]
        fn decoding_is_total(text in any::<String>()) {
            if let Ok(id) = VersionId::decode(&text) {
                prop_assert!(!id.as_str().is_empty());
            }
        }
    }
}
