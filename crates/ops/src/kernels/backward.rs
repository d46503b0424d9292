//! Both gradients of a convolution, image by image, so that each incoming gradient is read while it is warm.

use super::buffer::{Fresh, Scratch, Shared};
use super::forward::margins;
use super::geometry::{Geometry, Walk};
use super::pack::{Direction, Packed};
use super::rows::{Image, Padded, Runs};
use super::tile::Finish;
use super::together::{Output, Together, convolve, correlate, worth_it};
use super::weights::{Correlation, Map, Sums};
use crate::simd::Simd;
use crate::threads::{par, stretch};

/// Gradients of the kernel are summed over so many stretches of the batch first, however many threads there are.
const CHUNKS: usize = 8;

/// Where the gradient of a convolution's output comes from.
pub(crate) trait Incoming: Sync {
    /// Writes the gradient of output row `row`, counted over all images.
    fn fill(&self, row: usize, gradient: &mut [f32]);

    /// All of it, where it need not be computed.
    fn ready(&self) -> Option<&[f32]> {
        None
    }
}

/// A gradient that is there already.
pub(crate) struct Given<'a>(pub &'a [f32]);

impl Incoming for Given<'_> {
    fn fill(&self, row: usize, gradient: &mut [f32]) {
        gradient.copy_from_slice(&self.0[row * gradient.len()..][..gradient.len()]);
    }

    fn ready(&self) -> Option<&[f32]> {
        Some(self.0)
    }
}

/// The gradients that a convolution was asked for.
pub(crate) struct Gradients {
    /// Of its input.
    pub input: Option<Vec<f32>>,
    /// Of its kernel.
    pub kernel: Option<Vec<f32>>,
}

/// The walks of the input's gradient, ready to run.
struct Inward {
    walks: Vec<Walk>,
    runs: Vec<Runs>,
    /// By walk, then by group.
    weights: Vec<Packed>,
}

/// Gradients of what [`forward`](super::forward::forward) computes.
pub(crate) fn backward(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    incoming: &impl Incoming,
    [of_input, of_kernel]: [bool; 2],
) -> Gradients {
    let geometry = &geometry.flat();
    if worth_it(simd, geometry) {
        return few_at_a_time(simd, geometry, x, kernel, incoming, [of_input, of_kernel]);
    }
    let (groups, from, to) = (geometry.conv.groups, geometry.group_from(), geometry.group_to());
    let from_len = geometry.input_len();
    let layout = Sums::new(geometry, simd.lanes());
    let sums_len = groups * layout.len();
    let [out_height, out_width] = geometry.output;
    let walks = if of_input { geometry.backward() } else { Vec::new() };
    let margin @ [left, right] = margins(walks.iter().map(|walk| &walk.columns));
    let width = left + out_width + right;
    let inward = Inward {
        runs: walks.iter().map(|walk| Runs::new(walk, width, geometry.to, to)).collect(),
        weights: walks
            .iter()
            .flat_map(|walk| (0..groups).map(move |group| (walk, group)))
            .map(|(walk, group)| Packed::new(simd, geometry, Direction::Backward, walk, kernel, group))
            .collect(),
        walks,
    };
    let outward = geometry.forward();

    let chunks = CHUNKS.min(geometry.batch);
    let mut input = Fresh::new(if of_input { geometry.batch * from_len } else { 0 });
    let input_at = input.as_mut_ptr();
    let mut parts = Scratch::any(if of_kernel { chunks * sums_len } else { 0 });
    let parts_at = Shared::to(&mut parts);
    par(chunks, |chunk| {
        let mut gradient = Scratch::any(out_height * width * geometry.to);
        if of_kernel {
            // SAFETY: each piece of work has its own part.
            unsafe { std::slice::from_raw_parts_mut(parts_at.at(chunk * sums_len), sums_len) }.fill(0.0);
        }
        for image in stretch(geometry.batch, chunks, chunk) {
            fill(&mut gradient, incoming, image, geometry, margin);
            let padded = Padded { floats: gradient.as_ptr(), left, width, pixel: geometry.to };
            for group in 0..groups {
                let seen = Padded { floats: padded.floats.wrapping_add(group * to), ..padded };
                for (index, (walk, runs)) in inward.walks.iter().zip(&inward.runs).enumerate() {
                    simd.run(Image {
                        walk,
                        runs,
                        input: seen,
                        weights: &inward.weights[index * groups + group],
                        channels: from,
                        // SAFETY: each image is written by one piece of work.
                        out: unsafe { input_at.at(image * from_len + group * from) },
                        out_width: geometry.input[1],
                        out_pixel: geometry.from,
                        finish: Finish::PLAIN,
                    });
                }
                if of_kernel {
                    simd.run(Correlation {
                        walk: &outward,
                        x: Map {
                            floats: x[image * from_len..][..from_len].as_ptr().wrapping_add(group * from),
                            width: geometry.input[1],
                            pixel: geometry.from,
                        },
                        gradient: Map {
                            floats: seen.floats.wrapping_add(left * geometry.to),
                            width,
                            pixel: geometry.to,
                        },
                        layout,
                        // SAFETY: each piece of work has its own part.
                        sums: unsafe { parts_at.at(chunk * sums_len + group * layout.len()) },
                    });
                }
            }
        }
    });
    Gradients {
        // SAFETY: the walks of a backward pass write each input once: one walk for each place within a stride.
        input: of_input.then(|| unsafe { input.written() }),
        kernel: of_kernel.then(|| {
            add_up(&mut parts, sums_len, chunks);
            let mut kernel = Fresh::new(geometry.kernel_len());
            for group in 0..groups {
                let sums = &parts[group * layout.len()..][..layout.len()];
                // SAFETY: a group's channels lie side by side, and all groups are written.
                unsafe { layout.write(sums, kernel.as_mut_ptr().at(group * to), geometry.to) };
            }
            // SAFETY: so it is whole.
            unsafe { kernel.written() }
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
    [of_input, of_kernel]: [bool; 2],
) -> Gradients {
    let gradients = Together::new(simd, incoming, geometry.batch, geometry.output, geometry.to);
    let of_input = of_input.then(|| {
        let mut input = Fresh::new(geometry.batch * geometry.input_len());
        let floats = input.as_mut_ptr();
        let (width, pixel, image) = (geometry.input[1], geometry.from, geometry.input_len());
        let output = Output { floats, width, pixel, image };
        convolve(simd, geometry, Direction::Backward, &gradients, kernel, output, Finish::PLAIN);
        // SAFETY: the walks of a backward pass write each input once: one walk for each place within a stride.
        unsafe { input.written() }
    });
    let of_kernel = of_kernel.then(|| correlate(simd, geometry, x, &gradients));
    Gradients { input: of_input, kernel: of_kernel }
}

/// Writes the incoming gradient of one image between zeros.
fn fill(padded: &mut [f32], incoming: &impl Incoming, image: usize, geometry: &Geometry, margin: [usize; 2]) {
    let [left, right] = margin.map(|pixels| pixels * geometry.to);
    let [height, width] = geometry.output;
    let row_len = width * geometry.to;
    for (row, padded) in padded.chunks_exact_mut(left + row_len + right).enumerate() {
        padded[..left].fill(0.0);
        incoming.fill(image * height + row, &mut padded[left..left + row_len]);
        padded[left + row_len..].fill(0.0);
    }
}

/// Adds `count` parts to the first of them, in their order.
fn add_up(parts: &mut [f32], len: usize, count: usize) {
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
