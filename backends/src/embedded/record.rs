//! One stored record: its value behind a checksum over table, key and value.

use xxhash_rust::xxh3::Xxh3;

const CHECKSUM_BYTES: usize = 8;

/// The checksum covers the place of the record too, so that a value found at another key is found out.
fn checksum(table: &str, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Xxh3::new();
    hash.update(&(table.len() as u64).to_le_bytes());
    hash.update(table.as_bytes());
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(value);
    hash.digest().to_le_bytes()
}

/// Bytes of the stored form of a value.
pub(super) fn sealed_len(value: &[u8]) -> usize {
    CHECKSUM_BYTES + value.len()
}

/// Writes the stored form of a value to its place, which is as long as [`sealed_len`] says.
pub(super) fn seal(table: &str, key: &[u8], value: &[u8], place: &mut [u8]) {
    let (sum, rest) = place.split_at_mut(CHECKSUM_BYTES);
    sum.copy_from_slice(&checksum(table, key, value));
    rest.copy_from_slice(value);
}

/// The value of a stored form, or nothing if the checksum does not match.
pub(super) fn unseal<'a>(table: &str, key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (expected, value) = sealed.split_at_checked(CHECKSUM_BYTES)?;
    (checksum(table, key, value) == expected).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(table: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut place = vec![0; sealed_len(value)];
        super::seal(table, key, value, &mut place);
        place
    }

    #[test]
    fn a_sealed_value_opens_at_its_own_place_only() {
        let sealed = seal("t", b"k", b"value");
        assert_eq!(unseal("t", b"k", &sealed), Some(&b"value"[..]));
        assert_eq!(unseal("t", b"other", &sealed), None);
        assert_eq!(unseal("u", b"k", &sealed), None);
        assert_eq!(unseal("t", b"k", b"short"), None);
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let sealed = seal("t", b"k", b"value");
        for bit in 0..sealed.len() * 8 {
            let mut torn = sealed.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal("t", b"k", &torn), None, "bit {bit}");
        }
    }
}
