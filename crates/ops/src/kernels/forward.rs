//! The convolution itself.

use super::backward::Given;
use super::buffer::{Fresh, Scratch};
use super::geometry::{Axis, Geometry};
use super::norm::add_up;
use super::pack::{Direction, Packed};
use super::rows::{Image, Padded, Runs};
use super::tile::Finish;
use super::together::{Output, Together, convolve, worth_it};
use crate::simd::Simd;
use crate::threads::par_map;

/// What becomes of the sums on the way out; each per channel, but for the residual.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// Times the sum.
    pub scale: Option<&'a [f32]>,
    /// Added then.
    pub shift: Option<&'a [f32]>,
    /// Added then, per output.
    pub residual: Option<&'a [f32]>,
    /// Whether what is below zero becomes zero.
    pub relu: bool,
    /// Where the statistics are counted from, if they are asked for: a guess of the mean keeps their digits.
    pub pivot: Option<&'a [f32]>,
}

/// Per channel, over all outputs: the sum of what they are above the pivot, and of its square.
pub(crate) type Moments = Vec<[f64; 2]>;

/// Convolves `x` with `kernel`; the moments are there when the epilogue has a pivot.
pub(crate) fn forward(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    epilogue: &Epilogue<'_>,
) -> (Vec<f32>, Moments) {
    let geometry = &geometry.flat();
    let walk = geometry.forward();
    let (read, written) = (geometry.group_from(), geometry.group_to());
    let [left, right] = walk.columns.margin();
    let width = left + geometry.input[1] + right;
    let runs = Runs::new(&walk, width, geometry.from, read);
    let (from_len, to_len, to) = (geometry.input_len(), geometry.output_len(), geometry.to);
    let mut y = Fresh::new(geometry.batch * to_len);
    let out = y.as_mut_ptr();
    let counted = epilogue.pivot.is_some();
    let or_null = |values: Option<&[f32]>| values.map_or(std::ptr::null(), <[f32]>::as_ptr);
    let finish = Finish {
        scale: or_null(epilogue.scale),
        shift: or_null(epilogue.shift),
        residual: or_null(epilogue.residual),
        relu: epilogue.relu,
        pivot: or_null(epilogue.pivot),
        ..Finish::PLAIN
    };
    if worth_it(simd, geometry) {
        let maps = Together::new(simd, &Given(x), geometry.batch, geometry.input, geometry.from);
        let output = Output { floats: out, width: geometry.output[1], pixel: to, image: to_len };
        let moments = convolve(simd, geometry, Direction::Forward, &maps, kernel, output, finish);
        // SAFETY: the walk of a forward pass writes each output of each channel.
        return (unsafe { y.written() }, moments);
    }
    let weights: Vec<Packed> = (0..geometry.conv.groups)
        .map(|group| Packed::new(simd, geometry, Direction::Forward, &walk, kernel, group))
        .collect();
    let moments = par_map(geometry.batch, |image| {
        let finish = finish;
        let x = &x[image * from_len..][..from_len];
        let padded = pad(x, geometry.input, geometry.from, [left, right]);
        // SAFETY: each image is written by one piece of work.
        let out = unsafe { out.at(image * to_len) };
        let mut sums = Scratch::zeros(if counted { 2 * to } else { 0 });
        let mut finish = finish.at(0, image * to_len);
        if counted {
            finish.sum = sums.as_mut_ptr();
            finish.square = finish.sum.wrapping_add(to);
        }
        for (group, weights) in weights.iter().enumerate() {
            simd.run(Image {
                walk: &walk,
                runs: &runs,
                input: Padded {
                    floats: padded
                        .as_ref()
                        .map_or(x.as_ptr(), |padded| padded.as_ptr())
                        .wrapping_add(group * read),
                    left,
                    width,
                    pixel: geometry.from,
                },
                weights,
                channels: written,
                out: out.wrapping_add(group * written),
                out_width: geometry.output[1],
                out_pixel: to,
                finish: finish.at(group * written, group * written),
            });
        }
        let (sums, squares) = sums.split_at(sums.len() / 2);
        sums.iter().zip(squares).map(|(&sum, &square)| [sum, square].map(f64::from)).collect()
    });
    let moments = add_up(moments, if counted { to } else { 0 });
    // SAFETY: the walk of a forward pass writes each output of each channel.
    (unsafe { y.written() }, moments)
}

/// A copy of a map with zero pixels left and right of each row; none where no zeros are asked for.
pub(crate) fn pad(map: &[f32], size: [usize; 2], channels: usize, margin: [usize; 2]) -> Option<Scratch> {
    if margin == [0, 0] {
        return None;
    }
    let [left, right] = margin.map(|pixels| pixels * channels);
    let row = size[1] * channels;
    let mut padded = Scratch::any(size[0] * (left + row + right));
    for (padded, map) in padded.chunks_exact_mut(left + row + right).zip(map.chunks_exact(row)) {
        padded[..left].fill(0.0);
        padded[left..left + row].copy_from_slice(map);
        padded[left + row..].fill(0.0);
    }
    Some(padded)
}

/// What all walks of a backward pass need on either side of a row.
pub(crate) fn margins<'a>(columns: impl Iterator<Item = &'a Axis>) -> [usize; 2] {
    columns.map(Axis::margin).fold([0, 0], |all, one| [all[0].max(one[0]), all[1].max(one[1])])
}
