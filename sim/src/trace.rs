//! What happened, as a hash and, on demand, as text.
//!
//! Every step adds its time, process, event and effects to one running hash; two runs of a seed are the same run
//! exactly if their hashes are equal. With text on, each step also becomes one line, so that two traces compare line by
//! line. Lines carry virtual time and ids only.

/// Odd, with bits all over: the fraction of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of what `hash` stands for, followed by `word`. For one word no two hashes become the same: what once differed
/// stays different as long as the same follows.
#[inline]
const fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(MULTIPLIER);
    mixed ^ mixed >> 32
}

/// The trace of one run.
pub struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace; `text` keeps readable lines as well.
    pub fn new(text: bool) -> Self {
        Self { hash: 0, lines: text.then(Vec::new) }
    }

    /// Adds a word to the hash.
    #[inline]
    pub fn word(&mut self, word: u64) {
        self.hash = mix(self.hash, word);
    }

    /// Adds three words to the hash.
    #[inline]
    pub fn words(&mut self, words: [u64; 3]) {
        self.hash = words.into_iter().fold(self.hash, mix);
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
    pub fn finish(self) -> (u64, Vec<String>) {
        (self.hash, self.lines.unwrap_or_default())
    }
}

/// Folds the hashes of several runs, in order.
pub fn fold(hashes: impl IntoIterator<Item = u64>) -> u64 {
    hashes.into_iter().fold(0, mix)
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
    fn what_differs_once_stays_different() {
        let run = |first: u64| {
            let mut trace = Trace::new(false);
            trace.word(first);
            for word in 0..1000 {
                trace.words([word, 0, u64::MAX]);
            }
            trace.finish().0
        };
        let mut hashes: Vec<u64> = (0..64).map(|bit| run(1 << bit)).collect();
        hashes.push(run(0));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 65);
    }
}
