//! How an object is cut into parts for a multipart copy to a cloud (replication reference 5.9).

/// The smallest part: 16 MiB.
const PART_SIZE_MIN: u64 = 16 << 20;
/// Parts grow up to this size while there would be more than [`PARTS_WANTED`] of them: 512 MiB.
const PART_SIZE_WANTED_MAX: u64 = 512 << 20;
const PARTS_WANTED: u64 = 1_000;
/// Beyond the wanted size, parts grow only while there would be more than this many: the limit of the S3 protocol.
const PARTS_MAX: u64 = 10_000;
/// The limit of Google Cloud Storage.
const PARTS_MAX_GCP: u64 = 1_024;

/// A range of bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

/// The parts of one copy: contiguous, all but the last of the same size. A part without range stands for a whole empty object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRanges {
    content_length: u64,
    part_size: u64,
}

impl PartRanges {
    /// The parts of an object of `content_length` bytes. `gcp`: the target takes at most 1024 of them.
    pub fn new(content_length: u64, gcp: bool) -> Self {
        let parts = |size: u64| content_length.div_ceil(size.max(1));
        let mut part_size = content_length.min(PART_SIZE_MIN);
        while part_size < PART_SIZE_WANTED_MAX && parts(part_size) > PARTS_WANTED {
            part_size *= 2;
        }
        while parts(part_size) > PARTS_MAX {
            part_size *= 2;
        }
        if gcp && parts(part_size) > PARTS_MAX_GCP {
            let power = content_length.checked_next_power_of_two().unwrap_or(1 << 63);
            part_size = power.div_ceil(PARTS_MAX_GCP);
        }
        Self { content_length, part_size }
    }

    /// Bytes in every part but the last.
    pub fn part_size(&self) -> u64 {
        self.part_size
    }

    /// How many parts there are: at least one.
    pub fn count(&self) -> u64 {
        if self.part_size == 0 { 1 } else { self.content_length.div_ceil(self.part_size) }
    }

    /// The range of part `index`, counted from 0; `None` beyond the last one and for the only part of an empty object.
    pub fn range(&self, index: u64) -> Option<ByteRange> {
        let start = index.checked_mul(self.part_size)?;
        (start < self.content_length).then(|| {
            let end = start.saturating_add(self.part_size).min(self.content_length) - 1;
            ByteRange { start, end }
        })
    }

    /// All ranges in order.
    pub fn ranges(&self) -> impl Iterator<Item = Option<ByteRange>> + '_ {
        (0..self.count()).map(|index| self.range(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_sizes_are_cut_as_published() {
        let cut = |size, gcp| (PartRanges::new(size, gcp).part_size(), PartRanges::new(size, gcp).count());
        assert_eq!(cut(0, false), (0, 1));
        assert_eq!(cut(16_777_217, false), (16_777_216, 2));
        assert_eq!(cut(16_777_216_000, false), (16_777_216, 1000));
        assert_eq!(cut(16_777_216_001, false), (33_554_432, 501));
        assert_eq!(cut(536_870_912 * 10_000, false), (536_870_912, 10_000));
        assert_eq!(cut(536_870_912 * 10_000 + 1, false), (1_073_741_824, 5_001));
        assert_eq!(cut(536_870_912 * 1024, true), (536_870_912, 1024));
        assert_eq!(cut(536_870_912 * 1024 + 1, true).1, 513);
    }

    proptest! {
        #[test]
        fn ranges_cover_every_byte_once(size in 0_u64..1 << 45, gcp in any::<bool>()) {
            let plan = PartRanges::new(size, gcp);
            let parts_max = if gcp { PARTS_MAX_GCP } else { PARTS_MAX };
            prop_assert!(plan.count() <= parts_max);
            let mut next = 0;
            for range in plan.ranges().flatten() {
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end >= range.start);
                next = range.end + 1;
            }
            prop_assert_eq!(next, size);
        }
    }
}
