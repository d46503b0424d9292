//! Batch normalisation: sums per channel, and maps that are affine per channel.
//!
//! Long, because forward and backward share their sums, each with and without residual and ReLU.

use super::backward::Incoming;
use super::buffer::{Fresh, Scratch};
use super::forward::Moments;
use crate::simd::{Kernel, Lanes, Simd};
use crate::threads::{par, par_map, stretch};
use std::ops::Range;

/// A pass over a map is parted into so many stretches of pixels, however many threads there are.
const STRETCHES: usize = 16;

/// Floats that a register sums before they are added up with more digits.
const RUN: usize = 256;

/// Per channel of a map: the sum of what it is above `pivot`, and of its square.
pub(crate) fn moments(simd: Simd, x: &[f32], pivot: &[f32]) -> Moments {
    sums(pivot.len(), x.len(), |range, totals| {
        let (gradient, x, gated) = (&x[range.clone()], &x[range], std::ptr::null_mut());
        simd.run(Sums::<false> { gradient, gate: None, x, pivot, gated, totals });
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
    sums(pivot.len(), x.len(), |range, totals| {
        let gate = gate.map(|gate| &gate[range.clone()]);
        let (gradient, x, gated) = (&gradient[range.clone()], &x[range], std::ptr::null_mut());
        simd.run(Sums::<true> { gradient, gate, x, pivot, gated, totals });
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
    let sums = sums(pivot.len(), x.len(), |range, totals| {
        let (gradient, gate) = (&gradient[range.clone()], Some(&gate[range.clone()]));
        // SAFETY: the ranges do not overlap.
        let gated = unsafe { gated_at.at(range.start) };
        simd.run(Sums::<true> { gradient, gate, x: &x[range], pivot, gated, totals });
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
    gradient: &'a [f32],
    gate: Option<&'a [f32]>,
    x: &'a [f32],
    pivot: &'a [f32],
    /// Where the gated gradient goes, if anywhere.
    gated: *mut f32,
    totals: &'a mut [[f64; 2]],
}

impl<const PRODUCT: bool> Kernel for Sums<'_, PRODUCT> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let channels = self.pivot.len();
        // A few narrow pixels are looked at as one wide one: more sums that do not wait for each other.
        let fold = (4 * L::N / channels).max(1);
        let (wide, pixels) = (fold * channels, self.x.len() / channels);
        let pivot = self.pivot.repeat(fold);
        let mut found = Scratch::any(2 * wide);
        let rows = pixels / fold;
        for start in (0..rows).step_by(RUN) {
            // SAFETY: `rows` wide pixels fit into the map.
            unsafe { self.block::<L>(start * wide, (rows - start).min(RUN), &pivot, &mut found) };
            self.gather(&found, wide);
        }
        if rows * fold < pixels {
            // SAFETY: so many narrow pixels are left.
            unsafe { self.block::<L>(rows * wide, pixels - rows * fold, &pivot[..channels], &mut found) };
            self.gather(&found, channels);
        }
    }
}

impl<const PRODUCT: bool> Sums<'_, PRODUCT> {
    #[inline(always)]
    fn gather(&mut self, found: &[f32], wide: usize) {
        for channel in 0..wide {
            let totals = &mut self.totals[channel % self.pivot.len()];
            totals[0] += f64::from(found[channel]);
            totals[1] += f64::from(found[wide + channel]);
        }
    }

    #[inline(always)]
    unsafe fn block<L: Lanes>(&self, start: usize, rows: usize, pivot: &[f32], found: &mut [f32]) {
        let wide = pivot.len();
        let mut channel = 0;
        macro_rules! columns {
            ($vectors:literal) => {
                // SAFETY: the condition of the caller.
                unsafe {
                    let place = start + channel;
                    match (self.gate.is_some(), self.gated.is_null()) {
                        (false, _) => {
                            self.columns::<L, $vectors, false, false>(place, rows, channel, pivot, found)
                        }
                        (true, true) => {
                            self.columns::<L, $vectors, true, false>(place, rows, channel, pivot, found)
                        }
                        (true, false) => {
                            self.columns::<L, $vectors, true, true>(place, rows, channel, pivot, found)
                        }
                    }
                }
                channel += $vectors * L::N;
            };
        }
        while channel + 4 * L::N <= wide {
            columns!(4);
        }
        while channel < wide {
            columns!(1);
        }
    }

    #[inline(always)]
    unsafe fn columns<L: Lanes, const V: usize, const GATED: bool, const KEPT: bool>(
        &self,
        start: usize,
        rows: usize,
        channel: usize,
        pivot: &[f32],
        found: &mut [f32],
    ) {
        let wide = pivot.len();
        // SAFETY: the condition of the caller; the last vector is masked where channels end.
        unsafe {
            let mask = L::mask(wide - channel - (V - 1) * L::N);
            let load = |from: *const f32, v: usize| {
                let from = from.wrapping_add(v * L::N);
                if V == 1 { L::load_some(from, mask) } else { L::load(from) }
            };
            let (mut first, mut second) = ([L::splat(0.0); V], [L::splat(0.0); V]);
            let mut base = [L::splat(0.0); V];
            for v in 0..V {
                base[v] = load(pivot.as_ptr().wrapping_add(channel), v);
            }
            let (x, gradient) = (self.x.as_ptr(), self.gradient.as_ptr());
            let gate = self.gate.map_or(std::ptr::null(), <[f32]>::as_ptr);
            for row in 0..rows {
                let place = start + row * wide;
                for v in 0..V {
                    let apart = load(x.wrapping_add(place), v).sub(base[v]);
                    let mut value = if PRODUCT { load(gradient.wrapping_add(place), v) } else { apart };
                    if GATED {
                        value = load(gate.wrapping_add(place), v).gate(value);
                    }
                    if KEPT {
                        let to = self.gated.wrapping_add(place + v * L::N);
                        value.store_some(to, if V == 1 { mask } else { L::mask(L::N) });
                    }
                    first[v] = first[v].add(value);
                    second[v] = value.mul_add(apart, second[v]);
                }
            }
            for v in 0..V {
                let to = found.as_mut_ptr().wrapping_add(channel + v * L::N);
                let mask = if V == 1 { mask } else { L::mask(L::N) };
                first[v].store_some(to, mask);
                second[v].store_some(to.wrapping_add(wide), mask);
            }
        }
    }
}

/// `relu?(x · scale + shift + residual?)`, per channel.
pub(crate) fn apply(
    simd: Simd,
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    residual: Option<&[f32]>,
    relu: bool,
) -> Vec<f32> {
    let channels = scale.len();
    let pixels = x.len() / channels;
    let parts = STRETCHES.min(pixels);
    let mut y = Fresh::new(x.len());
    let out = y.as_mut_ptr();
    par(parts, |part| {
        let range = stretch(pixels, parts, part);
        let (start, end) = (range.start * channels, range.end * channels);
        // SAFETY: the stretches do not overlap.
        let y = unsafe { out.at(start) };
        let residual = residual.map(|residual| &residual[start..end]);
        simd.run(Apply { x: &x[start..end], scale, shift, residual, relu, y });
    });
    // SAFETY: the stretches cover all pixels.
    unsafe { y.written() }
}

struct Apply<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    residual: Option<&'a [f32]>,
    relu: bool,
    y: *mut f32,
}

/// Floats of a map whose channels are walked one vector at a time before the next pixels come.
const BLOCK: usize = 4096;

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: `y` is as long as `x`, and `residual` too.
        unsafe {
            match (self.residual.is_some(), self.relu) {
                (false, false) => self.rows::<L, false, false>(),
                (false, true) => self.rows::<L, false, true>(),
                (true, false) => self.rows::<L, true, false>(),
                (true, true) => self.rows::<L, true, true>(),
            }
        }
    }
}

impl Apply<'_> {
    #[inline(always)]
    unsafe fn rows<L: Lanes, const RESIDUAL: bool, const RELU: bool>(&self) {
        let channels = self.scale.len();
        let pixels = self.x.len() / channels;
        let near = (BLOCK / channels).max(1);
        let residual = self.residual.map_or(std::ptr::null(), <[f32]>::as_ptr);
        for start in (0..pixels).step_by(near) {
            for channel in (0..channels).step_by(L::N) {
                // SAFETY: the condition of the caller; vectors are masked where channels end.
                unsafe {
                    let mask = L::mask(channels - channel);
                    let scale = L::load_some(self.scale.as_ptr().add(channel), mask);
                    let shift = L::load_some(self.shift.as_ptr().add(channel), mask);
                    for pixel in start..(start + near).min(pixels) {
                        let place = pixel * channels + channel;
                        let mut value = L::load_some(self.x.as_ptr().add(place), mask).mul_add(scale, shift);
                        if RESIDUAL {
                            value = value.add(L::load_some(residual.add(place), mask));
                        }
                        if RELU {
                            // In this order what is not a number stays so.
                            value = L::splat(0.0).max(value);
                        }
                        value.store_some(self.y.add(place), mask);
                    }
                }
            }
        }
    }
}

/// The gradient that passes back through a normalisation: per channel,
/// `gradient · slope + (x - pivot) · lean + shift`, the gradient gated.
pub(crate) struct Through<'a> {
    /// For what machine.
    pub simd: Simd,
    /// The gradient of the result.
    pub gradient: &'a [f32],
    /// Where the gradient counts: where this is above zero.
    pub gate: Option<&'a [f32]>,
    /// What was normalised.
    pub x: &'a [f32],
    /// Its mean.
    pub pivot: &'a [f32],
    /// See above.
    pub slope: &'a [f32],
    /// See above.
    pub lean: &'a [f32],
    /// See above.
    pub shift: &'a [f32],
}

impl Incoming for Through<'_> {
    fn fill(&self, row: usize, out: &mut [f32]) {
        let range = row * out.len()..(row + 1) * out.len();
        self.simd.run(Rows { through: self, range, out: out.as_mut_ptr() });
    }
}

impl Through<'_> {
    /// The whole of it.
    pub(crate) fn all(&self) -> Vec<f32> {
        let channels = self.pivot.len();
        let pixels = self.x.len() / channels;
        let parts = STRETCHES.min(pixels);
        let mut out = Fresh::new(self.x.len());
        let out_at = out.as_mut_ptr();
        par(parts, |part| {
            let pixels = stretch(pixels, parts, part);
            let range = pixels.start * channels..pixels.end * channels;
            // SAFETY: the stretches do not overlap.
            let out = unsafe { out_at.at(range.start) };
            self.simd.run(Rows { through: self, range, out });
        });
        // SAFETY: the stretches cover all pixels.
        unsafe { out.written() }
    }
}

struct Rows<'a> {
    through: &'a Through<'a>,
    range: Range<usize>,
    out: *mut f32,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: the range lies in all three maps, and `out` is as long.
        unsafe {
            match self.through.gate {
                Some(_) => self.rows::<L, true>(),
                None => self.rows::<L, false>(),
            }
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    unsafe fn rows<L: Lanes, const GATED: bool>(&self) {
        let Through { gradient, gate, x, pivot, slope, lean, shift, .. } = self.through;
        let (gradient, x) = (&gradient[self.range.clone()], &x[self.range.clone()]);
        let gate = gate.map_or(std::ptr::null(), |gate| gate[self.range.clone()].as_ptr());
        let channels = pivot.len();
        let pixels = self.range.len() / channels;
        let near = (BLOCK / channels).max(1);
        for start in (0..pixels).step_by(near) {
            for channel in (0..channels).step_by(L::N) {
                // SAFETY: the condition of the caller; vectors are masked where channels end.
                unsafe {
                    let mask = L::mask(channels - channel);
                    let of_channel =
                        |values: &[f32]| L::load_some(values.as_ptr().wrapping_add(channel), mask);
                    let (pivot, slope) = (of_channel(pivot), of_channel(slope));
                    let (lean, shift) = (of_channel(lean), of_channel(shift));
                    for pixel in start..(start + near).min(pixels) {
                        let place = pixel * channels + channel;
                        let mut value = L::load_some(gradient.as_ptr().add(place), mask);
                        if GATED {
                            value = L::load_some(gate.wrapping_add(place), mask).gate(value);
                        }
                        let apart = L::load_some(x.as_ptr().add(place), mask).sub(pivot);
                        let value = value.mul_add(slope, apart.mul_add(lean, shift));
                        value.store_some(self.out.add(place), mask);
                    }
                }
            }
        }
    }
}
