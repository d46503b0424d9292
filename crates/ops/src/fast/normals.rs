//! Normal numbers by the million, each by its place: a GPU makes the same (`kernels/change.cu`).

use super::numbers::{PAGES, ln, share};
use crate::simd::{Kernel, Lanes, simd};
use sokd_core::{Key, Stream};
use std::f32::consts::SQRT_2;

/// From the highest power down, of [`normal`] in the middle and in its tails.
const MIDDLE: [f32; 9] = [
    2.810_226_4e-8,
    3.432_739_4e-7,
    -3.523_387_7e-6,
    -4.391_506_5e-6,
    2.185_808_7e-4,
    -1.253_725e-3,
    -4.177_681_6e-3,
    0.246_640_73,
    1.501_409_4,
];
const TAIL: [f32; 9] = [
    -2.002_142_6e-4,
    1.009_505_6e-4,
    1.349_343_2e-3,
    -3.673_428_4e-3,
    5.739_507_7e-3,
    -7.622_461_3e-3,
    9.438_870_5e-3,
    1.001_674,
    2.832_976_8,
];

/// Independent numbers of mean 0 and a deviation, one for each word of the key's stream.
pub(crate) fn normals(key: Key, deviation: f32, count: usize) -> Vec<f32> {
    let (mut numbers, stream) = (vec![0.0; count], key.stream());
    share(&mut numbers, PAGES, |page, numbers| {
        simd().run(Normals { stream: stream.past(page * PAGES), deviation, numbers });
    });
    numbers
}

struct Normals<'a> {
    stream: Stream,
    deviation: f32,
    numbers: &'a mut [f32],
}

impl Kernel for Normals<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let mut words = [0; 256];
        for numbers in self.numbers.chunks_mut(words.len()) {
            let words = &mut words[..numbers.len()];
            self.stream.fill(words);
            numbers.iter_mut().zip(words).for_each(|(number, word)| *number = self.deviation * normal(*word));
        }
    }
}

/// The number whose like are as rare as the word says, on the side that its first bit says.
///
/// # Source
/// Giles, "Approximating the erfinv function", GPU Computing Gems, 2012: that of single precision, on the share that lies beyond the
/// number, so that tails keep their digits.
#[inline(always)]
fn normal(word: u32) -> f32 {
    // Of words without their first bit, which vectors convert as they would not all 32.
    let beyond = ((word & 0x7fff_ffff).cast_signed() as f32 + 0.5) * (1.0 / 4_294_967_296.0);
    let rare = -ln(4.0 * beyond * (1.0 - beyond));
    let (middle, tail) = (polynomial(&MIDDLE, rare - 2.5), polynomial(&TAIL, rare.sqrt() - 3.0));
    let number = if rare < 5.0 { middle } else { tail };
    let number = number * SQRT_2 * (1.0 - 2.0 * beyond);
    f32::from_bits(number.to_bits() | word & 1 << 31)
}

#[inline(always)]
fn polynomial(factors: &[f32; 9], x: f32) -> f32 {
    let mut sum = factors[0];
    for factor in &factors[1..] {
        sum = factor + sum * x;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_normal() {
        let numbers = normals(Key::new(1), 1.0, 1_000_000);
        let count = numbers.len() as f64;
        let moment = |power| numbers.iter().map(|&one| f64::from(one).powi(power)).sum::<f64>() / count;
        for (power, expected, within) in [(1, 0.0, 0.005), (2, 1.0, 0.007), (3, 0.0, 0.02), (4, 3.0, 0.05)] {
            assert!((moment(power) - expected).abs() < within, "moment {power}: {}", moment(power));
        }
        // The share beyond 1/2, 1, 2, 3, 3.5 and 4 deviations, on both sides.
        for (beyond, share) in [
            (0.5, 0.308_537_5),
            (1.0, 0.158_655_3),
            (2.0, 0.022_750_1),
            (3.0, 0.001_349_9),
            (3.5, 0.000_232_63),
            (4.0, 0.000_031_67),
        ] {
            for sign in [1.0, -1.0] {
                let found = numbers.iter().filter(|&&one| sign * one > beyond).count() as f64;
                let due = share * count;
                assert!((found - due).abs() < 4.5 * due.sqrt(), "{found} beyond {beyond} for {due}");
            }
        }
    }

    /// By Python's `-statistics.NormalDist().inv_cdf((word + 0.5) / 2**32)`.
    #[test]
    fn a_word_says_how_rare_a_number_is() {
        for (word, due) in [
            (0, 6.337_958),
            (1, 6.166_429_5),
            (1_000, 5.039_851),
            (1 << 20, 3.487_104),
            (1 << 26, 2.153_874_7),
            (1 << 29, 1.150_349_4),
            (1 << 30, 0.674_489_75),
            ((1 << 30) + (1 << 29), 0.318_639_36),
            ((1 << 31) - (1 << 26), 0.039_176_085),
        ] {
            // Beyond 2⁻²⁴ the formula was not fitted.
            let within = if word < 1 << 8 { 5e-4 } else { 2e-6 };
            assert!((normal(word) / due - 1.0).abs() < within, "{word}: {} for {due}", normal(word));
            assert_eq!(normal(word | 1 << 31).to_bits(), (-normal(word)).to_bits());
        }
    }
}
