//! Loops over many numbers: what every kernel here stands on.

use crate::threads;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use std::mem::MaybeUninit;

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
        pieces.collect::<Vec<_>>().into_par_iter().for_each(&work);
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
