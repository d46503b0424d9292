//! The micro-kernel of the convolution: a tile of output pixels times vectors of output channels, held in registers.

use super::rows::LONGEST;
use crate::simd::Lanes;

/// A stretch of the sum that an output is: `len` inputs in a row meet as many rows of weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The first input, seen from the output's own place.
    pub input: isize,
    /// The first row of weights.
    pub weight: usize,
    /// How many.
    pub len: usize,
}

/// What happens to a sum before it is written, and what is remembered of it. Absent parts are null.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    /// Per channel: times the sum.
    pub scale: *const f32,
    /// Per channel: added then.
    pub shift: *const f32,
    /// Per output: added then.
    pub residual: *const f32,
    /// Whether what is below zero becomes zero.
    pub relu: bool,
    /// Per channel: what the two below are counted from. Present when they are.
    pub pivot: *const f32,
    /// Per channel: gathers what is written, less the pivot.
    pub sum: *mut f32,
    /// Per channel: gathers the square of that.
    pub square: *mut f32,
}

// SAFETY: as for `Shared`: the parts that are written belong to one piece of work.
unsafe impl Send for Finish {}
// SAFETY: as above.
unsafe impl Sync for Finish {}

impl Finish {
    /// Writes the sums as they are.
    pub(crate) const PLAIN: Self = Self {
        scale: std::ptr::null(),
        shift: std::ptr::null(),
        residual: std::ptr::null(),
        relu: false,
        pivot: std::ptr::null(),
        sum: std::ptr::null_mut(),
        square: std::ptr::null_mut(),
    };

    /// The same from channel `channel` on, and from the output `output` floats on.
    #[inline(always)]
    pub(crate) fn at(self, channel: usize, output: usize) -> Self {
        Self {
            scale: self.scale.wrapping_add(if self.scale.is_null() { 0 } else { channel }),
            shift: self.shift.wrapping_add(if self.shift.is_null() { 0 } else { channel }),
            residual: self.residual.wrapping_add(if self.residual.is_null() { 0 } else { output }),
            pivot: self.pivot.wrapping_add(if self.pivot.is_null() { 0 } else { channel }),
            sum: self.sum.wrapping_add(if self.sum.is_null() { 0 } else { channel }),
            square: self.square.wrapping_add(if self.square.is_null() { 0 } else { channel }),
            ..self
        }
    }
}

/// A distance between pixels that is known when the tile runs.
pub(crate) const ANY: usize = 0;

/// The distance between pixels of as many images, which are stored together, channel by channel.
pub(crate) const INTERLEAVED: usize = 1;

/// Adds to the sums of `P` pixels × `V` vectors of channels.
///
/// Each step broadcasts one input of each pixel against one row of weights: `P + V` loads for `P · V` fused
/// multiply-adds. Pixels lie `STEP` floats apart in the input, where the compiler is to know it: sixteen addresses
/// of unknown distance do not fit into the registers. With [`INTERLEAVED`] they lie side by side, channel by
/// channel; with [`ANY`] they lie `step` apart.
///
/// # Safety
/// Beside the condition of [`Lanes`]: every input that the runs name, `V · N` weights in each row that they name.
#[inline(always)]
pub(crate) unsafe fn sum<L: Lanes, const P: usize, const V: usize, const STEP: usize>(
    mut sums: [[L; V]; P],
    input: *const f32,
    step: usize,
    runs: &[Run],
    weights: *const f32,
) -> [[L; V]; P] {
    // SAFETY: this function's own condition.
    unsafe {
        for run in runs {
            let mut x = input.wrapping_offset(run.input);
            let mut w = weights.add(run.weight * V * L::N);
            let next = if STEP == INTERLEAVED { P } else { 1 };
            let mut left = run.len;
            while left >= UNROLL {
                for step_of in 0..UNROLL {
                    let (x, w) = (x.wrapping_add(step_of * next), w.wrapping_add(step_of * V * L::N));
                    multiply::<L, P, V, STEP>(&mut sums, x, step, w);
                }
                x = x.wrapping_add(UNROLL * next);
                w = w.wrapping_add(UNROLL * V * L::N);
                left -= UNROLL;
            }
            while left > 0 {
                multiply::<L, P, V, STEP>(&mut sums, x, step, w);
                x = x.wrapping_add(next);
                w = w.wrapping_add(V * L::N);
                left -= 1;
            }
        }
        sums
    }
}

/// How many inputs are met before the loop turns. Counting and jumping take the ports that multiply: with a turn for
/// each input a tenth of the speed is lost.
const UNROLL: usize = 2;

/// One input of each pixel meets one row of weights.
#[inline(always)]
unsafe fn multiply<L: Lanes, const P: usize, const V: usize, const STEP: usize>(
    sums: &mut [[L; V]; P],
    x: *const f32,
    step: usize,
    weights: *const f32,
) {
    // SAFETY: the condition of the caller.
    unsafe {
        let row = row(weights);
        for p in 0..P {
            meet(&mut sums[p], *x.wrapping_add(p * if STEP == ANY { step } else { STEP }), row);
        }
    }
}

/// The same for neighbouring pixels and [three taps abreast](super::pack::Order::Abreast): each input is broadcast once, and
/// meets the weights of all three: `P + 2 + 3 · V` loads for `3 · P · V` fused multiply-adds. A tile of one vector does not wait
/// for loads any more, and no row needs zeros beside it: `beside` says whether there is a pixel left and right of these.
///
/// # Safety
/// Beside the condition of [`Lanes`]: every input that the runs name, and the pixels left and right of them that are
/// there; three times `V · N` weights in each row that they name. No run is longer than [`LONGEST`].
#[inline(always)]
pub(crate) unsafe fn sum_abreast<L: Lanes, const P: usize, const V: usize>(
    mut sums: [[L; V]; P],
    input: *const f32,
    pixel: usize,
    beside: [bool; 2],
    runs: &[Run],
    weights: *const f32,
) -> [[L; V]; P] {
    // SAFETY: this function's own condition.
    unsafe {
        for run in runs {
            let mut x = input.wrapping_offset(run.input);
            let mut left = if beside[0] { x.wrapping_sub(pixel) } else { NOTHING.as_ptr() };
            let mut right = if beside[1] { x.wrapping_add(P * pixel) } else { NOTHING.as_ptr() };
            let mut w = weights.add(run.weight * V * L::N);
            for _ in 0..run.len {
                let [before, at, behind] = [0, 1, 2].map(|tap| row(w.wrapping_add(tap * V * L::N)));
                meet(&mut sums[0], *left, before);
                for p in 0..P {
                    let value = *x.wrapping_add(p * pixel);
                    if p + 1 < P {
                        meet(&mut sums[p + 1], value, before);
                    }
                    meet(&mut sums[p], value, at);
                    if p > 0 {
                        meet(&mut sums[p - 1], value, behind);
                    }
                }
                meet(&mut sums[P - 1], *right, behind);
                x = x.wrapping_add(1);
                left = left.wrapping_add(1);
                right = right.wrapping_add(1);
                w = w.wrapping_add(3 * V * L::N);
            }
        }
        sums
    }
}

/// What lies beside a map.
static NOTHING: [f32; LONGEST] = [0.0; LONGEST];

/// One row of weights.
#[inline(always)]
unsafe fn row<L: Lanes, const V: usize>(weights: *const f32) -> [L; V] {
    // SAFETY: the condition of the caller.
    unsafe {
        let mut row = [L::splat(0.0); V];
        for v in 0..V {
            row[v] = L::load(weights.wrapping_add(v * L::N));
        }
        row
    }
}

/// One input meets one row of weights.
#[inline(always)]
unsafe fn meet<L: Lanes, const V: usize>(sums: &mut [L; V], value: f32, weights: [L; V]) {
    // SAFETY: the condition of the caller.
    unsafe {
        let value = L::splat(value);
        for v in 0..V {
            sums[v] = value.mul_add(weights[v], sums[v]);
        }
    }
}

/// Nothing summed yet.
///
/// # Safety
/// The condition of [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn zeros<L: Lanes, const P: usize, const V: usize>() -> [[L; V]; P] {
    // SAFETY: this function's own condition.
    [[unsafe { L::splat(0.0) }; V]; P]
}

/// Sums that were written plainly, to be gone on with.
///
/// # Safety
/// Beside the condition of [`Lanes`]: the sums are there.
#[inline(always)]
pub(crate) unsafe fn read<L: Lanes, const P: usize, const V: usize>(
    from: *const f32,
    step: usize,
    mask: L::Mask,
) -> [[L; V]; P] {
    // SAFETY: this function's own condition.
    unsafe {
        let mut sums = zeros::<L, P, V>();
        for p in 0..P {
            for v in 0..V {
                let from = from.wrapping_add(p * step + v * L::N);
                sums[p][v] = if v == V - 1 { L::load_some(from, mask) } else { L::load(from) };
            }
        }
        sums
    }
}

/// Writes the first `pixels` of a tile of sums, `step` floats apart, the last vector under `mask`.
///
/// # Safety
/// Beside the condition of [`Lanes`]: room for what is written, and as many channels in what `finish` has.
#[inline(always)]
pub(crate) unsafe fn write<L: Lanes, const P: usize, const V: usize>(
    sums: [[L; V]; P],
    out: *mut f32,
    step: usize,
    pixels: usize,
    mask: L::Mask,
    finish: &Finish,
) {
    // SAFETY: this function's own condition.
    unsafe {
        let whole = L::mask(L::N);
        for v in 0..V {
            let mask = if v == V - 1 { mask } else { whole };
            let channel = v * L::N;
            let scale = if finish.scale.is_null() {
                L::splat(1.0)
            } else {
                L::load_some(finish.scale.add(channel), mask)
            };
            let shift = if finish.shift.is_null() {
                L::splat(0.0)
            } else {
                L::load_some(finish.shift.add(channel), mask)
            };
            let affine = !finish.scale.is_null() || !finish.shift.is_null();
            let (mut total, mut square) = (L::splat(0.0), L::splat(0.0));
            let counted = !finish.sum.is_null();
            let pivot = if counted { L::load_some(finish.pivot.add(channel), mask) } else { total };
            for p in 0..P {
                if p >= pixels {
                    break;
                }
                let place = p * step + channel;
                let mut value = sums[p][v];
                if affine {
                    value = value.mul_add(scale, shift);
                }
                if !finish.residual.is_null() {
                    value = value.add(L::load_some(finish.residual.add(place), mask));
                }
                if finish.relu {
                    // In this order what is not a number stays so.
                    value = L::splat(0.0).max(value);
                }
                value.store_some(out.add(place), mask);
                if counted {
                    let apart = value.sub(pivot);
                    total = total.add(apart);
                    square = apart.mul_add(apart, square);
                }
            }
            if counted {
                let (sum, squares) = (finish.sum.add(channel), finish.square.add(channel));
                L::load_some(sum, mask).add(total).store_some(sum, mask);
                L::load_some(squares, mask).add(square).store_some(squares, mask);
            }
        }
    }
}
