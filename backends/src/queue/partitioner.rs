//! Which partition a key goes to.
//!
//! The same choice as librdkafka's `consistent` partitioner: CRC-32 (IEEE) of the key modulo the number of partitions,
//! so that a key keeps its partition whoever publishes it.

use backbeat_core::id::Partition;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0_u32; 256];
    let mut index = 0_u32;
    while index < 256 {
        let mut value = index;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { 0xEDB8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[index as usize] = value;
        index += 1;
    }
    table
}

/// CRC-32 with the polynomial of IEEE 802.3, reflected.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize] ^ (crc >> 8))
}

/// The partition of `key` in a topic of `partitions` partitions.
///
/// # Panics
/// If `partitions` is zero.
pub fn partition_of(key: &[u8], partitions: u32) -> Partition {
    assert!(partitions > 0, "a topic has at least one partition");
    Partition(crc32(key) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_matches_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn keys_go_where_librdkafka_sends_them() {
        assert_eq!(partition_of(b"123456789", 4), Partition(0xCBF4_3926 % 4));
        assert_eq!(partition_of(b"anything", 1), Partition(0));
    }
}
