//! What happened, as a hash and, on demand, as text.
//!
//! Every step adds its time, process, event and effects to one running xxh3 hash; two runs of a seed are the same run
//! exactly if their hashes are equal. With text on, each step also becomes one line, so that two traces compare line by
//! line. Lines carry virtual time and ids only.

use xxhash_rust::xxh3::Xxh3;

/// Words are folded into the hash in blocks: streaming them one by one costs more than the hash.
const BLOCK: usize = 4096;

/// The trace of one run.
pub struct Trace {
    hash: Xxh3,
    block: Vec<u8>,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace; `text` keeps readable lines as well.
    pub fn new(text: bool) -> Self {
        Self { hash: Xxh3::new(), block: Vec::with_capacity(BLOCK + 64), lines: text.then(Vec::new) }
    }

    /// Adds a word to the hash.
    pub fn word(&mut self, word: u64) {
        self.bytes(&word.to_le_bytes());
    }

    /// Adds three words to the hash.
    pub fn words(&mut self, [one, two, three]: [u64; 3]) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&one.to_le_bytes());
        bytes[8..16].copy_from_slice(&two.to_le_bytes());
        bytes[16..].copy_from_slice(&three.to_le_bytes());
        self.bytes(&bytes);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK {
            self.hash.update(&self.block);
            self.block.clear();
        }
    }

    /// Adds text to the hash.
    pub fn text(&mut self, text: &str) {
        self.word(xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
    }

    /// Whether lines are kept.
    #[inline]
    pub fn is_verbose(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line; `line` is only called when lines are kept.
    #[inline]
    pub fn line(&mut self, at: u64, line: impl FnOnce() -> String) {
        if self.is_verbose() {
            self.keep(at, line);
        }
    }

    // Out of the way of runs that keep no lines: all but one in a million.
    #[cold]
    fn keep(&mut self, at: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>6}.{:06} {}", at / 1_000_000, at % 1_000_000, line()));
        }
    }

    /// The hash of the whole run and its lines.
    pub fn finish(mut self) -> (u64, Vec<String>) {
        self.hash.update(&self.block);
        (self.hash.digest(), self.lines.unwrap_or_default())
    }
}

/// Folds the hashes of several runs, in order.
pub fn fold(hashes: impl IntoIterator<Item = u64>) -> u64 {
    let mut all = Xxh3::new();
    for hash in hashes {
        all.update(&hash.to_le_bytes());
    }
    all.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_changes_the_hash() {
        let run = |words: &[u64]| {
            let mut trace = Trace::new(false);
            for word in words {
                trace.word(*word);
            }
            trace.finish().0
        };
        assert_eq!(run(&[1, 2]), run(&[1, 2]));
        assert_ne!(run(&[1, 2]), run(&[2, 1]));
    }

    #[test]
    fn blocks_do_not_change_the_hash() {
        let mut trace = Trace::new(false);
        let mut plain = Vec::new();
        for word in 0..2000_u64 {
            trace.word(word);
            plain.extend_from_slice(&word.to_le_bytes());
        }
        assert_eq!(trace.finish().0, xxhash_rust::xxh3::xxh3_64(&plain));
    }
}
