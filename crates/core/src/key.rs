//! Randomness as a value.

use std::cell::Cell;

/// A splittable source of randomness: the same path of folds gives the same draws,
/// whatever else the program did before, on any number of threads.
///
/// # Source
/// Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
///
/// # Example
/// ```
/// use sokd_core::Key;
/// let seed = Key::new(7);
/// assert_eq!(seed.fold("student").stream().uniform(), seed.fold("student").stream().uniform());
/// assert_ne!(seed.fold("student").stream().uniform(), seed.fold("teacher").stream().uniform());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u32; 2]);

/// That of the [words](Key::words) of one.
impl From<[u32; 2]> for Key {
    fn from(words: [u32; 2]) -> Self {
        Self(words)
    }
}

/// The last counter word of a fold; streams stay below it.
const FOLD: u32 = u32::MAX;

impl Key {
    /// The root of a run's randomness.
    pub fn new(seed: u64) -> Self {
        Self(halves(seed))
    }

    /// A key for everything under `name`.
    #[must_use]
    pub fn fold(self, name: &str) -> Self {
        self.split(fnv1a(name), 1)
    }

    /// A key for the `index`-th of many.
    #[must_use]
    pub fn fold_in(self, index: u64) -> Self {
        self.split(index, 0)
    }

    fn split(self, data: u64, kind: u32) -> Self {
        let [low, high] = halves(data);
        let [a, b, ..] = philox(self.0, [low, high, kind, FOLD]);
        Self([a, b])
    }

    /// The key in two words, for who draws by [`Stream::bits`]' numbers elsewhere.
    pub fn words(self) -> [u32; 2] {
        self.0
    }

    /// The draws of this key, from the first.
    pub fn stream(self) -> Stream {
        self.stream_at(0, 0, 0)
    }

    /// The draws for one sample in one epoch, for a purpose below `u32::MAX`: independent of the order in
    /// which samples are drawn, which is what lets loader threads race and epochs resume.
    pub fn stream_at(self, purpose: u32, epoch: u32, sample: u32) -> Stream {
        debug_assert!(purpose < FOLD);
        BEGUN.set(BEGUN.get() + 1);
        Stream { key: self.0, counter: [0, sample, epoch, purpose], block: [0; 4], left: 0 }
    }
}

thread_local! {
    static BEGUN: Cell<u64> = const { Cell::new(0) };
}

/// How many streams of draws this thread has begun: whoever does work a second time learns from it whether it draws.
pub fn streams_begun() -> u64 {
    BEGUN.get()
}

/// Numbers drawn from a [`Key`], in order.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    left: usize,
}

impl Stream {
    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.left == 0 {
            self.block = philox(self.key, self.counter);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.left = 4;
        }
        self.left -= 1;
        self.block[3 - self.left]
    }

    /// The same draws without the next `words` of 32 bits, which others may draw meanwhile.
    #[must_use]
    pub fn past(&self, words: usize) -> Self {
        let [first, rest @ ..] = self.counter;
        let at = 4 * first as usize - self.left + words;
        let mut past =
            Self { counter: [(at / 4) as u32, rest[0], rest[1], rest[2]], left: 0, ..self.clone() };
        for _ in 0..at % 4 {
            past.bits();
        }
        past
    }

    /// As many words of 32 bits as there is room for, those that [`Stream::bits`] would give one after the other: drawn side by
    /// side, which the compiler makes vectors of.
    #[inline]
    pub fn fill(&mut self, words: &mut [u32]) {
        let begun = self.left.min(words.len());
        let (first, rest) = words.split_at_mut(begun);
        for word in first {
            *word = self.bits();
        }
        let (chunks, rest) = rest.as_chunks_mut::<{ 4 * BLOCKS }>();
        for chunk in chunks {
            let blocks = philox_blocks(self.key, self.counter);
            for (block, words) in chunk.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *words = blocks.map(|of| of[block]);
            }
            self.counter[0] = self.counter[0].wrapping_add(BLOCKS as u32);
        }
        for word in rest {
            *word = self.bits();
        }
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.bits() >> 5);
        let low = u64::from(self.bits() >> 6);
        ((high << 26) | low) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform among `0..bound`, without bias (Lemire 2019). `bound` must not be 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let wide = u64::from(self.bits()) * u64::from(bound);
            if wide as u32 >= threshold {
                return (wide >> 32) as u32;
            }
        }
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal: the cosine half of Box and Muller's pair.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[inline]
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Blocks that are drawn side by side.
const BLOCKS: usize = 16;

/// The next blocks, word by word.
#[inline]
fn philox_blocks(key: [u32; 2], counter: [u32; 4]) -> [[u32; BLOCKS]; 4] {
    let (mut key, mut all) = (key, counter.map(|word| [word; BLOCKS]));
    all[0] = std::array::from_fn(|block| counter[0].wrapping_add(block as u32));
    for _ in 0..10 {
        let [a, b, c, d] = &mut all;
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            [*a, *b, *c, *d] = round(key, [*a, *b, *c, *d]);
        }
        key = next(key);
    }
    all
}

#[inline]
fn round(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [low0, high0] = halves(u64::from(counter[0]) * 0xd251_1f53);
    let [low1, high1] = halves(u64::from(counter[2]) * 0xcd9e_8d57);
    [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
}

/// The key of the next round.
#[inline]
fn next(key: [u32; 2]) -> [u32; 2] {
    [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)]
}

/// One block of Philox4x32-10.
fn philox(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    for _ in 0..10 {
        counter = round(key, counter);
        key = next(key);
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three vectors that Random123 publishes (`kat_vectors`).
    #[test]
    fn philox_matches_random123() {
        let known = [
            ([0; 2], [0; 4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 2], [u32::MAX; 4], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (key, counter, expected) in known {
            assert_eq!(philox(key, counter), expected);
        }
    }

    #[test]
    fn a_name_and_a_number_never_meet() {
        let key = Key::new(0);
        assert_ne!(key.fold_in(fnv1a("a")), key.fold("a"));
    }

    #[test]
    fn draws_have_the_moments_they_should() {
        let mut stream = Key::new(3).stream();
        let n = 100_000;
        let (mut sum, mut square, mut counts) = (0.0, 0.0, [0u32; 3]);
        for _ in 0..n {
            let z = stream.normal();
            sum += z;
            square += z * z;
            counts[stream.below(3) as usize] += 1;
        }
        assert!((sum / f64::from(n)).abs() < 0.02);
        assert!((square / f64::from(n) - 1.0).abs() < 0.02);
        assert!(counts.iter().all(|&c| c.abs_diff(33_333) < 700), "{counts:?}");
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..100).collect();
        Key::new(1).stream().shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn draws_go_on_past_others() {
        for begun in 0..6 {
            let mut stream = Key::new(2).stream_at(1, 2, 3);
            for _ in 0..begun {
                stream.bits();
            }
            let mut past: Vec<Stream> = (0..10).map(|words| stream.past(words)).collect();
            for past in &mut past {
                assert_eq!(past.bits(), stream.bits());
            }
        }
    }

    #[test]
    fn words_side_by_side_are_those_of_a_row() {
        for (begun, count) in [(0, 3), (1, 2), (2, 64), (3, 200), (0, 0), (5, 130)] {
            let mut stream = Key::new(4).stream();
            for _ in 0..begun {
                stream.bits();
            }
            let (mut many, mut one) = (vec![0; count], stream.clone());
            stream.fill(&mut many);
            assert!(many.into_iter().all(|word| word == one.bits()), "{begun}, {count}");
            assert_eq!(stream.bits(), one.bits());
        }
    }

    #[test]
    fn each_thread_counts_its_own_streams() {
        let begun = streams_begun();
        let key = Key::new(1).fold("a fold draws nothing");
        assert_eq!(streams_begun(), begun);
        let _ = (key.stream(), key.stream_at(0, 1, 2));
        std::thread::spawn(move || key.stream()).join().expect("a stream");
        assert_eq!(streams_begun(), begun + 2);
    }
}
