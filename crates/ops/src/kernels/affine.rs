//! Maps that are affine per channel: a batch normalisation whose statistics are known, forwards and backwards.

use super::backward::Incoming;
use super::buffer::Fresh;
use super::norm::STRETCHES;
use super::period::{Period, Visit, load, store};
use crate::simd::{Kernel, Lanes, Simd};
use crate::threads::{par, stretch};
use std::borrow::Cow;
use std::ops::Range;

/// A map of `len` floats, written stretch by stretch of whole pixels.
///
/// # Safety
/// `piece` writes as many floats as its range has.
unsafe fn written(
    len: usize,
    channels: usize,
    piece: impl Fn(Range<usize>, *mut f32) + Send + Sync,
) -> Vec<f32> {
    let pixels = len / channels;
    let parts = STRETCHES.min(pixels);
    let mut out = Fresh::new(len);
    let out_at = out.as_mut_ptr();
    par(parts, |part| {
        let range = stretch(pixels, parts, part);
        let range = range.start * channels..range.end * channels;
        // SAFETY: the stretches do not overlap.
        let out = unsafe { out_at.at(range.start) };
        piece(range, out);
    });
    // SAFETY: the stretches cover all pixels.
    unsafe { out.written() }
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
    let (channels, period) = (scale.len(), Period::new(simd, scale.len()));
    let [scale, shift] = &[scale, shift].map(|values| period.of(values));
    let piece = |range: Range<usize>, y| {
        let residual = residual.map(|residual| &residual[range.clone()]);
        simd.run(Apply { period, x: &x[range], scale, shift, residual, relu, y });
    };
    // SAFETY: the kernel writes a float for each of `x`.
    unsafe { written(x.len(), channels, piece) }
}

struct Apply<'a> {
    period: Period,
    x: &'a [f32],
    /// Over a period, and so is the shift.
    scale: &'a [f32],
    shift: &'a [f32],
    residual: Option<&'a [f32]>,
    relu: bool,
    y: *mut f32,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (period, len) = (self.period, self.x.len());
        // SAFETY: `y` is as long as `x`, and `residual` too.
        unsafe {
            match (self.residual.is_some(), self.relu) {
                (false, false) => period.walk::<L>(len, &Applied::<false, false>(self)),
                (false, true) => period.walk::<L>(len, &Applied::<false, true>(self)),
                (true, false) => period.walk::<L>(len, &Applied::<true, false>(self)),
                (true, true) => period.walk::<L>(len, &Applied::<true, true>(self)),
            }
        }
    }
}

struct Applied<'a, const RESIDUAL: bool, const RELU: bool>(Apply<'a>);

impl<const RESIDUAL: bool, const RELU: bool> Visit for Applied<'_, RESIDUAL, RELU> {
    #[inline(always)]
    unsafe fn visit<L: Lanes, const WHOLE: bool>(&self, place: usize, at: usize, mask: L::Mask) {
        let Apply { x, scale, shift, residual, y, .. } = &self.0;
        // SAFETY: the condition of the caller.
        unsafe {
            let [scale, shift] =
                [scale, shift].map(|values| load::<L, WHOLE>(values.as_ptr().wrapping_add(at), mask));
            let read = |map: &[f32]| load::<L, WHOLE>(map.as_ptr().wrapping_add(place), mask);
            let mut value = read(x).mul_add(scale, shift);
            if RESIDUAL {
                value = value.add(read(residual.unwrap_or_default()));
            }
            if RELU {
                // In this order what is not a number stays so.
                value = L::splat(0.0).max(value);
            }
            store::<L, WHOLE>(value, y.wrapping_add(place), mask);
        }
    }
}

/// The gradient that passes back through a normalisation: per channel,
/// `gradient · slope + (x - pivot) · lean + shift`, the gradient gated.
pub(crate) struct Through<'a> {
    simd: Simd,
    channels: usize,
    period: Period,
    gradient: &'a [f32],
    gate: Option<&'a [f32]>,
    x: &'a [f32],
    /// Pivot, slope, lean and shift, each over a period.
    affine: [Vec<f32>; 4],
}

impl<'a> Through<'a> {
    /// Of `gradient`, that of the result, where `gate` is above zero; `x` was normalised. `affine`: pivot, slope, lean and shift.
    pub(crate) fn new(
        simd: Simd,
        gradient: &'a [f32],
        gate: Option<&'a [f32]>,
        x: &'a [f32],
        affine: [&[f32]; 4],
    ) -> Self {
        let channels = affine[0].len();
        let period = Period::new(simd, channels);
        Self { simd, channels, period, gradient, gate, x, affine: affine.map(|values| period.of(values)) }
    }

    /// The whole of it.
    pub(crate) fn all(&self) -> Vec<f32> {
        let piece = |range, out| self.simd.run(Rows { through: self, range, out });
        // SAFETY: the kernel writes a float for each place of the range.
        unsafe { written(self.x.len(), self.channels, piece) }
    }
}

impl Incoming for Through<'_> {
    fn fill(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        self.simd.run(Rows { through: self, range, out: out.as_mut_ptr() });
    }

    fn whole(&self) -> Cow<'_, [f32]> {
        Cow::Owned(self.all())
    }
}

/// Some whole pixels of it.
struct Rows<'a> {
    through: &'a Through<'a>,
    range: Range<usize>,
    out: *mut f32,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { through: Through { period, gradient, gate, x, affine, .. }, range, out } = self;
        let len = range.len();
        let part = Part {
            gradient: gradient[range.clone()].as_ptr(),
            gate: gate.map_or(std::ptr::null(), |gate| gate[range.clone()].as_ptr()),
            x: x[range].as_ptr(),
            affine: affine.each_ref().map(Vec::as_ptr),
            out,
        };
        // SAFETY: the range lies in all three maps, and `out` is as long.
        unsafe {
            match gate {
                Some(_) => period.walk::<L>(len, &Passed::<true>(part)),
                None => period.walk::<L>(len, &Passed::<false>(part)),
            }
        }
    }
}

/// Where some pixels begin, and what is known of their channels.
struct Part {
    gradient: *const f32,
    gate: *const f32,
    x: *const f32,
    affine: [*const f32; 4],
    out: *mut f32,
}

struct Passed<const GATED: bool>(Part);

impl<const GATED: bool> Visit for Passed<GATED> {
    #[inline(always)]
    unsafe fn visit<L: Lanes, const WHOLE: bool>(&self, place: usize, at: usize, mask: L::Mask) {
        let Part { gradient, gate, x, affine, out } = &self.0;
        // SAFETY: the condition of the caller.
        unsafe {
            let [pivot, slope, lean, shift] =
                affine.map(|values| load::<L, WHOLE>(values.wrapping_add(at), mask));
            let read = |map: &*const f32| load::<L, WHOLE>(map.wrapping_add(place), mask);
            let mut value = read(gradient);
            if GATED {
                value = read(gate).gate(value);
            }
            let value = value.mul_add(slope, read(x).sub(pivot).mul_add(lean, shift));
            store::<L, WHOLE>(value, out.wrapping_add(place), mask);
        }
    }
}
