//! The bytes of the demo's objects: made from a seed, so that what arrived can be compared with what was meant without
//! keeping any of it.

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use std::convert::Infallible;
use xxhash_rust::xxh3::Xxh3;

/// Bytes made at a time; ranges start at multiples of it.
const BLOCK: u64 = 64 * 1024;

/// The 128-bit XXH3 digest of some bytes, with their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// How many bytes.
    pub(super) bytes: u64,
    /// Their hash.
    pub(super) hash: u128,
}

/// Adds up a [`Digest`] piece by piece.
#[derive(Default)]
pub(super) struct Digester {
    bytes: u64,
    state: Xxh3,
}

impl Digester {
    /// Takes the next piece.
    pub(super) fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.state.update(piece);
    }

    /// The digest of all pieces so far.
    pub(super) fn finish(&self) -> Digest {
        Digest { bytes: self.bytes, hash: self.state.digest128() }
    }
}

/// The content of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    seed: u64,
    bytes: u64,
}

impl Content {
    /// `bytes` bytes that no other seed gives.
    pub(super) fn new(seed: u64, bytes: u64) -> Self {
        Self { seed, bytes }
    }

    /// How many bytes.
    pub(super) fn bytes(self) -> u64 {
        self.bytes
    }

    /// The digest of the whole.
    pub(super) fn digest(self) -> Digest {
        let mut digester = Digester::default();
        for block in self.blocks(0, self.bytes) {
            digester.update(&block);
        }
        digester.finish()
    }

    /// The bytes from `start` (a multiple of the block) up to `end`, as the body of a request.
    pub(super) fn body(
        self,
        start: u64,
        end: u64,
    ) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
        StreamBody::new(stream::iter(self.blocks(start, end).map(|block| Ok(Frame::data(block)))))
    }

    fn blocks(self, start: u64, end: u64) -> impl Iterator<Item = Bytes> + Send + 'static {
        assert!(start.is_multiple_of(BLOCK), "ranges of content start at a block");
        assert!(end <= self.bytes, "a range ends within its content");
        let mut at = start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let length = (end - at).min(BLOCK);
            let block = self.block(at / BLOCK, length);
            at += length;
            Some(block)
        })
    }

    fn block(self, number: u64, length: u64) -> Bytes {
        let length = usize::try_from(length).expect("a block fits into memory");
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bytes = Vec::with_capacity(length + size_of::<u64>());
        while bytes.len() < length {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.truncate(length);
        Bytes::from(bytes)
    }
}

/// SplitMix64: small, fast, the same everywhere.
pub(super) struct Random(u64);

impl Random {
    /// A generator of its own.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(content: Content, start: u64, end: u64) -> Vec<u8> {
        content.blocks(start, end).flat_map(|block| block.to_vec()).collect()
    }

    #[test]
    fn ranges_are_pieces_of_the_whole() {
        let content = Content::new(7, 3 * BLOCK + 5);
        let whole = collect(content, 0, content.bytes());
        assert_eq!(whole.len() as u64, content.bytes());
        let block = usize::try_from(BLOCK).unwrap();
        assert_eq!(collect(content, BLOCK, 2 * BLOCK + 1), whole[block..=2 * block]);
        let mut digester = Digester::default();
        whole.chunks(1000).for_each(|piece| digester.update(piece));
        assert_eq!(digester.finish(), content.digest());
    }

    #[test]
    fn another_seed_gives_other_bytes() {
        assert_ne!(Content::new(1, 100).digest(), Content::new(2, 100).digest());
        assert_eq!(Content::new(1, 0).digest(), Content::new(2, 0).digest());
    }
}
