//! Loops over many numbers: what every kernel here stands on.

use crate::threads::{par_each, threads};
use std::iter::Sum;
use std::mem::MaybeUninit;
use std::ops::AddAssign;

/// Below this many numbers, waking another thread costs more than it brings.
pub(super) const WORTH_SHARING: usize = 1 << 15;

/// Runs `work` on every chunk of `out`, sharing them among the threads.
///
/// A chunk is always the work of one thread, and chunks do not depend on how many threads there are; neither, then,
/// do the results.
pub(super) fn share<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let worth = out.len() >= WORTH_SHARING;
    let pieces = out.chunks_mut(chunk.max(1)).enumerate();
    share_pieces(pieces, worth, |(index, out)| work(index, out));
}

/// Runs `work` on every piece, sharing them among the threads where that is worth it.
pub(super) fn share_pieces<T: Send>(pieces: impl Iterator<Item = T>, worth: bool, work: impl Fn(T) + Sync) {
    if worth && threads() > 1 {
        par_each(pieces.collect(), work);
    } else {
        pieces.for_each(&work);
    }
}

/// `length` numbers that `work` writes, chunk by chunk. Big maps are bound by memory: to write zeros first would cost
/// a third of some operations.
///
/// # Safety
/// `work` must write all of each chunk.
pub(super) unsafe fn filled(
    length: usize,
    chunk: usize,
    work: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(length);
    share(&mut out.spare_capacity_mut()[..length], chunk, work);
    // SAFETY: `work` has written them.
    unsafe { out.set_len(length) };
    out
}

/// `length` numbers that begin as zeros, to which `work` adds, chunk by chunk: the zeros are still in the nearest cache.
pub(super) fn summed(length: usize, chunk: usize, work: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
        out.fill(MaybeUninit::new(0.0));
        // SAFETY: zeros are numbers.
        work(index, unsafe { out.assume_init_mut() });
    };
    // SAFETY: zeros were written to all of each chunk.
    unsafe { filled(length, chunk, work) }
}

/// Chunks for work on single numbers: a few pages each.
pub(super) const PAGES: usize = 1 << 13;

/// `f` of each number.
pub(super) fn map(x: &[f32], f: impl Fn(f32) -> f32 + Sync) -> Vec<f32> {
    let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
        for (out, &x) in out.iter_mut().zip(&x[index * PAGES..]) {
            out.write(f(x));
        }
    };
    // SAFETY: every chunk is as long as what is left of `x`, or `PAGES`.
    unsafe { filled(x.len(), PAGES, work) }
}

/// `f` of each pair of numbers.
pub(super) fn zip(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    assert_eq!(x.len(), y.len(), "pairs of numbers");
    let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
        for ((out, &x), &y) in out.iter_mut().zip(&x[index * PAGES..]).zip(&y[index * PAGES..]) {
            out.write(f(x, y));
        }
    };
    // SAFETY: as in `map`, and `y` is as long as `x`.
    unsafe { filled(x.len(), PAGES, work) }
}

/// Partial sums of a row: as many as the compiler keeps in registers.
const SUMS: usize = 16;

/// Σ f(a, b), with as many sums side by side as vectors have lanes: one alone would wait for each of its additions.
#[inline(always)]
pub(super) fn sum<T>(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> T) -> T
where
    T: Copy + Default + AddAssign + Sum,
{
    let mut sums = [T::default(); SUMS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..SUMS {
            sums[lane] += f(a[lane], b[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| f(a, b)).sum::<T>();
    let mut sum = sums.into_iter().sum::<T>();
    sum += rest;
    sum
}

/// The largest, as many at once; none is a number that is not.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut most = [f32::NEG_INFINITY; SUMS];
    let (chunks, rest) = x.as_chunks::<SUMS>();
    for chunk in chunks {
        for lane in 0..SUMS {
            most[lane] = larger(most[lane], chunk[lane]);
        }
    }
    most.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

/// eˣ, to the last digit or two, in operations that the compiler makes vectors of; what would leave the numbers stays at
/// their end.
///
/// # Source
/// Cephes' `expf`: x = n ln 2 + r, a polynomial in r, n added to the exponent.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Added, it leaves no place for a fraction.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + coefficient;
    }
    let scale = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * scale
}

/// ln x of a number above 0 that has all its digits, to the last digit or two, in operations that the compiler makes vectors of.
///
/// # Source
/// Cephes' `logf`: x = 2ⁿ (1 + r), a polynomial in r.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    /// √½: below it, r would be far from 0.
    const LEAST: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(LEAST);
    let n = (bits.cast_signed() >> 23) as f32;
    let r = f32::from_bits((bits & 0x007f_ffff) + LEAST) - 1.0;
    let mut p = 7.037_683_6e-2;
    for coefficient in [
        -0.115_146_1,
        0.116_769_99,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_58,
        0.200_007_15,
        -0.249_999_94,
        0.333_333_3,
    ] {
        p = p * r + coefficient;
    }
    let square = r * r;
    r + (p * r * square - n * 2.121_944_4e-4 - 0.5 * square) + n * 0.693_359_4
}

/// `N` numbers in a row.
#[inline(always)]
pub(super) fn row<const N: usize>(numbers: &[f32], start: usize) -> &[f32; N] {
    numbers[start..start + N].first_chunk().expect("a slice of N numbers")
}

/// Work on a few channels of a pixel, of a number that the compiler knows: sums stay in registers.
pub(super) trait Channels {
    /// The channels from `first` to `first + N`.
    fn visit<const N: usize>(&mut self, first: usize);
}

/// Visits all channels, many at once.
#[inline(always)]
pub(super) fn visit_channels(channels: usize, work: &mut impl Channels) {
    let mut first = 0;
    while first + 64 <= channels {
        work.visit::<64>(first);
        first += 64;
    }
    while first + 16 <= channels {
        work.visit::<16>(first);
        first += 16;
    }
    while first + 4 <= channels {
        work.visit::<4>(first);
        first += 4;
    }
    match channels - first {
        3 => work.visit::<3>(first),
        2 => work.visit::<2>(first),
        1 => work.visit::<1>(first),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{exp, largest, ln, sum};

    #[test]
    fn the_exponential_is_right_to_a_digit_or_two_of_the_last_place() {
        for step in -87_000..=88_000 {
            let x = step as f32 / 1000.0;
            let (ours, right) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / right - 1.0).abs() < 2e-7, "{x}: {ours} instead of {right}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e9) > 0.0 && exp(1e9).is_finite());
    }

    #[test]
    fn the_logarithm_is_right_to_a_digit_or_two_of_the_last_place() {
        for step in 1..200_000 {
            for x in [step as f32 / 100_000.0, 1.0 / (step as f32 * 1e4), step as f32 * 1e3] {
                let (ours, right) = (f64::from(ln(x)), f64::from(x).ln());
                assert!(
                    (ours - right).abs() <= 2e-7 * right.abs().max(1e-3),
                    "{x}: {ours} instead of {right}"
                );
            }
        }
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "whole numbers, whose sums are exact")]
    fn sums_and_the_largest_take_in_every_number() {
        for length in [0, 1, 15, 16, 17, 40] {
            let x: Vec<f32> = (0..length).map(|at| ((at * 7) % 11) as f32 - 20.0).collect();
            let right: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert_eq!(sum(&x, &x, |a, b| f64::from(a) * f64::from(b)), right);
            for place in 0..length {
                let mut x = x.clone();
                x[place] = 3.0;
                assert_eq!(largest(&x), 3.0);
            }
        }
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
    }
}
