//! Sums per channel of a map, forwards and backwards: what a batch normalisation goes by.

use super::buffer::{Fresh, Scratch};
use super::forward::Moments;
use super::period::{Period, Visit, load, store};
use crate::simd::{Kernel, Lanes, Simd};
use crate::threads::{par_map, stretch};
use std::ops::Range;

/// A pass over a map is parted into so many stretches of pixels, however many threads there are.
pub(super) const STRETCHES: usize = 16;

/// Floats that a lane sums before they are added up with more digits.
const RUN: usize = 256;

/// Per channel of a map: the sum of what it is above `pivot`, and of its square.
pub(crate) fn moments(simd: Simd, x: &[f32], pivot: &[f32]) -> Moments {
    let (period, channels) = (Period::new(simd, pivot.len()), pivot.len());
    let pivot = &period.of(pivot);
    sums(channels, x.len(), |range, totals| {
        let (gradient, x, gated) = (&x[range.clone()], &x[range], std::ptr::null_mut());
        simd.run(Sums::<false> { period, gradient, gate: None, x, pivot, gated, totals });
    })
}

/// Per channel: the sum of the gradient, and of the gradient times what `x` is above `pivot`. Where there is a
/// `gate`, the gradient counts only where that is above zero.
pub(crate) fn gradient_sums(
    simd: Simd,
    gradient: &[f32],
    gate: Option<&[f32]>,
    x: &[f32],
    pivot: &[f32],
) -> Moments {
    let (period, channels) = (Period::new(simd, pivot.len()), pivot.len());
    let pivot = &period.of(pivot);
    sums(channels, x.len(), |range, totals| {
        let gate = gate.map(|gate| &gate[range.clone()]);
        let (gradient, x, gated) = (&gradient[range.clone()], &x[range], std::ptr::null_mut());
        simd.run(Sums::<true> { period, gradient, gate, x, pivot, gated, totals });
    })
}

/// The same, and the gradient that counts, for whoever else wants it.
pub(crate) fn gated_gradient_sums(
    simd: Simd,
    gradient: &[f32],
    gate: &[f32],
    x: &[f32],
    pivot: &[f32],
) -> (Vec<f32>, Moments) {
    let mut gated = Fresh::new(gradient.len());
    let gated_at = gated.as_mut_ptr();
    let (period, channels) = (Period::new(simd, pivot.len()), pivot.len());
    let pivot = &period.of(pivot);
    let sums = sums(channels, x.len(), |range, totals| {
        let (gradient, gate) = (&gradient[range.clone()], Some(&gate[range.clone()]));
        // SAFETY: the ranges do not overlap.
        let gated = unsafe { gated_at.at(range.start) };
        simd.run(Sums::<true> { period, gradient, gate, x: &x[range], pivot, gated, totals });
    });
    // SAFETY: the ranges cover all pixels.
    (unsafe { gated.written() }, sums)
}

/// Adds up what `piece` finds in each stretch of whole pixels.
fn sums(channels: usize, len: usize, piece: impl Fn(Range<usize>, &mut Moments) + Send + Sync) -> Moments {
    let pixels = len / channels;
    let parts = STRETCHES.min(pixels);
    let found = par_map(parts, |part| {
        let range = stretch(pixels, parts, part);
        let mut sums = vec![[0.0; 2]; channels];
        piece(range.start * channels..range.end * channels, &mut sums);
        sums
    });
    add_up(found, channels)
}

/// The sum of some moments, in their order.
pub(crate) fn add_up(parts: Vec<Moments>, channels: usize) -> Moments {
    let mut total = vec![[0.0; 2]; channels];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            total[0] += part[0];
            total[1] += part[1];
        }
    }
    total
}

/// Sums of a gradient and of its product with a map; without `PRODUCT`, of a map above the pivot and its square.
struct Sums<'a, const PRODUCT: bool> {
    period: Period,
    gradient: &'a [f32],
    gate: Option<&'a [f32]>,
    x: &'a [f32],
    /// Over a period.
    pivot: &'a [f32],
    /// Where the gated gradient goes, if anywhere.
    gated: *mut f32,
    totals: &'a mut [[f64; 2]],
}

impl<const PRODUCT: bool> Kernel for Sums<'_, PRODUCT> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let wide = self.period.len();
        let mut found = Scratch::any(2 * wide);
        for start in (0..self.x.len()).step_by(RUN * wide) {
            found.fill(0.0);
            let found_at = found.as_mut_ptr();
            let part = Part {
                gradient: self.gradient[start..].as_ptr(),
                gate: self.gate.map_or(std::ptr::null(), |gate| gate[start..].as_ptr()),
                x: self.x[start..].as_ptr(),
                pivot: self.pivot.as_ptr(),
                gated: self.gated.wrapping_add(start),
                found: [found_at, found_at.wrapping_add(wide)],
            };
            let len = (self.x.len() - start).min(RUN * wide);
            // SAFETY: all maps are as long as `x`, and what is per channel as long as a period.
            unsafe {
                match (self.gate.is_some(), self.gated.is_null()) {
                    (false, _) => self.period.walk::<L>(len, &Summed::<PRODUCT, false, false>(part)),
                    (true, true) => self.period.walk::<L>(len, &Summed::<PRODUCT, true, false>(part)),
                    (true, false) => self.period.walk::<L>(len, &Summed::<PRODUCT, true, true>(part)),
                }
            }
            let channels = self.totals.len();
            for (first, second) in found.chunks_exact(channels).zip(found[wide..].chunks_exact(channels)) {
                for (totals, (&first, &second)) in self.totals.iter_mut().zip(first.iter().zip(second)) {
                    totals[0] += f64::from(first);
                    totals[1] += f64::from(second);
                }
            }
        }
    }
}

/// Some pixels of the maps, and where their sums are gathered over a period: the gradient's, and the product's.
struct Part {
    gradient: *const f32,
    gate: *const f32,
    x: *const f32,
    pivot: *const f32,
    gated: *mut f32,
    found: [*mut f32; 2],
}

struct Summed<const PRODUCT: bool, const GATED: bool, const KEPT: bool>(Part);

impl<const PRODUCT: bool, const GATED: bool, const KEPT: bool> Visit for Summed<PRODUCT, GATED, KEPT> {
    #[inline(always)]
    unsafe fn visit<L: Lanes, const WHOLE: bool>(&self, place: usize, at: usize, mask: L::Mask) {
        let Part { gradient, gate, x, pivot, gated, found } = &self.0;
        // SAFETY: the condition of the caller. What is gathered is a whole period.
        unsafe {
            let read = |map: &*const f32| load::<L, WHOLE>(map.wrapping_add(place), mask);
            let apart = read(x).sub(load::<L, WHOLE>(pivot.wrapping_add(at), mask));
            let mut value = if PRODUCT { read(gradient) } else { apart };
            if GATED {
                value = read(gate).gate(value);
            }
            if KEPT {
                store::<L, WHOLE>(value, gated.wrapping_add(place), mask);
            }
            let [sum, product] = found.map(|found| found.wrapping_add(at));
            L::load(sum).add(value).store(sum);
            value.mul_add(apart, L::load(product)).store(product);
        }
    }
}
