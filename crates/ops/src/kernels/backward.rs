//! Both gradients of a convolution, image by image, so that each incoming gradient is read while it is warm.

use super::buffer::{Fresh, Scratch, Shared};
use super::geometry::Geometry;
use super::pack::Direction;
use super::pass::{Bordered, Pass};
use super::pointwise;
use super::shares::Shares;
use super::tile::Finish;
use super::together::{Output, Together, convolve, correlate, worth_it};
use super::winograd::{self, Tiling};
use crate::simd::Simd;
use crate::spent::spend;
use crate::threads::{par, stretch};
use std::borrow::Cow;

/// Gradients of the kernel are summed over so many stretches of the batch first, however many threads there are.
pub(super) const CHUNKS: usize = 8;

/// Where the gradient of a convolution's output comes from.
pub(crate) trait Incoming: Sync {
    /// Writes the gradient from float `start` on; whole pixels.
    fn fill(&self, start: usize, gradient: &mut [f32]);

    /// All of it, where it need not be computed.
    fn ready(&self) -> Option<&[f32]> {
        None
    }

    /// All of it. Scratch will not do: a thread keeps its own, and would hold the room of a map all through the next forward pass,
    /// at whose end a step needs most.
    fn whole(&self) -> Cow<'_, [f32]>;
}

/// A gradient that is there already.
pub(crate) struct Given<'a>(pub &'a [f32]);

impl Incoming for Given<'_> {
    fn fill(&self, start: usize, gradient: &mut [f32]) {
        gradient.copy_from_slice(&self.0[start..][..gradient.len()]);
    }

    fn ready(&self) -> Option<&[f32]> {
        Some(self.0)
    }

    fn whole(&self) -> Cow<'_, [f32]> {
        Cow::Borrowed(self.0)
    }
}

/// Which gradients a convolution is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Of its input.
    pub input: bool,
    /// What that is added to: what others had of the input already.
    pub onto: Option<&'a [f32]>,
    /// Of its kernel.
    pub kernel: bool,
}

impl Wanted<'_> {
    /// Of input and kernel, added to nothing.
    pub(crate) fn of([input, kernel]: [bool; 2]) -> Self {
        Self { input, onto: None, kernel }
    }

    /// How the sums of the input's gradient are written.
    pub(super) fn finish(&self) -> Finish {
        let onto = self.onto.map_or(std::ptr::null(), <[f32]>::as_ptr);
        Finish { residual: onto, ..Finish::PLAIN }
    }
}

/// The gradients that a convolution was asked for.
pub(crate) struct Gradients {
    /// Of its input.
    pub input: Option<Vec<f32>>,
    /// Of its kernel.
    pub kernel: Option<Vec<f32>>,
}

/// Gradients of what [`forward`](super::forward::forward) computes.
pub(crate) fn backward(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    incoming: &impl Incoming,
    wanted: Wanted<'_>,
) -> Gradients {
    if let Some(onto) = wanted.onto {
        assert_eq!(onto.len(), geometry.batch * geometry.input_len(), "a gradient of the same map");
    }
    let what = || match [wanted.input, wanted.kernel] {
        [true, true] => (format!("gradients of {geometry}"), 2 * geometry.macs()),
        [true, false] => (format!("map's gradient of {geometry}"), geometry.macs()),
        _ => (format!("kernel's gradient of {geometry}"), geometry.macs()),
    };
    spend(what, || gradients(simd, geometry, x, kernel, incoming, wanted))
}

fn gradients(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    incoming: &impl Incoming,
    wanted: Wanted<'_>,
) -> Gradients {
    if let Some(tiling) = Tiling::of(geometry) {
        return winograd::backward(simd, geometry, tiling, x, kernel, incoming, wanted);
    }
    if geometry.pointwise() {
        return pointwise::backward(simd, geometry, x, kernel, incoming, wanted);
    }
    if worth_it(simd, geometry) {
        return few_at_a_time(simd, geometry, x, kernel, incoming, wanted);
    }
    let Wanted { input: of_input, kernel: of_kernel, .. } = wanted;
    let (from_len, to_len) = (geometry.input_len(), geometry.output_len());
    let chunks = CHUNKS.min(geometry.batch);
    let inward = of_input.then(|| Pass::new(simd, geometry, Direction::Backward, kernel));
    let margin = inward.as_ref().map_or([0, 0], Pass::margin);
    let mut input = Fresh::new(if of_input { geometry.batch * from_len } else { 0 });
    let input_at = input.as_mut_ptr();
    let shares = Shares::new(simd, geometry);
    let len = shares.len();
    let mut parts = Scratch::any(if of_kernel { chunks * len } else { 0 });
    let parts_at = Shared::to(&mut parts);
    par(chunks, |chunk| {
        // SAFETY: each piece of work has its own part.
        let mut part =
            of_kernel.then(|| unsafe { std::slice::from_raw_parts_mut(parts_at.at(chunk * len), len) });
        if let Some(part) = &mut part {
            part.fill(0.0);
        }
        for image in stretch(geometry.batch, chunks, chunk) {
            let row = |row: usize, out: &mut [f32]| {
                incoming.fill((image * geometry.output[0] + row) * out.len(), out);
            };
            let gradient = match incoming.ready() {
                Some(all) => {
                    Bordered::of(&all[image * to_len..][..to_len], geometry.output, geometry.to, margin)
                }
                None => Bordered::new(geometry.output, geometry.to, margin, row),
            };
            if let Some(inward) = &inward {
                // SAFETY: each image is written by one piece of work.
                unsafe {
                    let (x, out) = (x[image * from_len..].as_ptr(), input_at.at(image * from_len));
                    let next = [(x, from_len), (out.wrapping_add(from_len).cast_const(), from_len)];
                    inward.image(gradient.padded(), out, wanted.finish().at(0, image * from_len), next);
                };
            }
            if let Some(part) = &mut part {
                shares.add(&x[image * from_len..][..from_len], gradient.padded(), part);
            }
        }
    });
    Gradients {
        // SAFETY: the walks of a backward pass write each input once: one walk for each place within a stride.
        input: of_input.then(|| unsafe { input.written() }),
        kernel: of_kernel.then(|| {
            add_up(&mut parts, len, chunks);
            shares.kernel(&parts[..len])
        }),
    }
}

/// The same for small maps.
fn few_at_a_time(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    incoming: &impl Incoming,
    wanted: Wanted<'_>,
) -> Gradients {
    let gradients = Together::new(simd, incoming, geometry.batch, geometry.output, geometry.to);
    let of_input = wanted.input.then(|| {
        let mut input = Fresh::new(geometry.batch * geometry.input_len());
        let floats = input.as_mut_ptr();
        let (width, pixel, image) = (geometry.input[1], geometry.from, geometry.input_len());
        let output = Output { floats, width, pixel, image };
        convolve(simd, geometry, Direction::Backward, &gradients, kernel, output, wanted.finish());
        // SAFETY: the walks of a backward pass write each input once: one walk for each place within a stride.
        unsafe { input.written() }
    });
    let of_kernel = wanted.kernel.then(|| correlate(simd, geometry, x, &gradients));
    Gradients { input: of_input, kernel: of_kernel }
}

/// Adds `count` parts to the first of them, in their order.
pub(super) fn add_up(parts: &mut [f32], len: usize, count: usize) {
    let (total, parts) = parts.split_at_mut(len);
    let total_at = Shared::to(total);
    let pieces = len.div_ceil(1 << 14);
    par(pieces, |piece| {
        let range = stretch(len, pieces, piece);
        // SAFETY: the stretches do not overlap.
        let total = unsafe { std::slice::from_raw_parts_mut(total_at.at(range.start), range.len()) };
        for part in 1..count {
            for (sum, value) in total.iter_mut().zip(&parts[(part - 1) * len..][range.clone()]) {
                *sum += value;
            }
        }
    });
}
