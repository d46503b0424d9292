//! The convolution itself.

use super::backward::Given;
use super::buffer::{Fresh, Scratch};
use super::geometry::Geometry;
use super::norm::add_up;
use super::pack::Direction;
use super::pass::{Bordered, Pass};
use super::tile::Finish;
use super::together::{Output, Together, convolve, worth_it};
use super::winograd::{self, Tiling};
use crate::simd::Simd;
use crate::spent::spend;
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
    let work = || sums(simd, geometry, x, kernel, epilogue);
    spend(|| (geometry.to_string(), geometry.macs()), work)
}

fn sums(
    simd: Simd,
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    epilogue: &Epilogue<'_>,
) -> (Vec<f32>, Moments) {
    let geometry = &geometry.flat();
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
    if let Some(tiling) = Tiling::of(geometry) {
        let moments = winograd::convolve(simd, geometry, tiling, Direction::Forward, x, kernel, out, finish);
        // SAFETY: the tiles cover each output of each channel.
        return (unsafe { y.written() }, moments);
    }
    if worth_it(simd, geometry) {
        let maps = Together::new(simd, &Given(x), geometry.batch, geometry.input, geometry.from);
        let output = Output { floats: out, width: geometry.output[1], pixel: to, image: to_len };
        let moments = convolve(simd, geometry, Direction::Forward, &maps, kernel, output, finish);
        // SAFETY: the walk of a forward pass writes each output of each channel.
        return (unsafe { y.written() }, moments);
    }
    let pass = Pass::new(simd, geometry, Direction::Forward, kernel);
    let moments = par_map(geometry.batch, |image| {
        let map =
            Bordered::of(&x[image * from_len..][..from_len], geometry.input, geometry.from, pass.margin());
        let mut sums = Scratch::zeros(if counted { 2 * to } else { 0 });
        let mut finish = finish.at(0, image * to_len);
        if counted {
            finish.sum = sums.as_mut_ptr();
            finish.square = finish.sum.wrapping_add(to);
        }
        // SAFETY: each image is written by one piece of work.
        unsafe { pass.image(map.padded(), out.at(image * to_len), finish) };
        let (sums, squares) = sums.split_at(sums.len() / 2);
        sums.iter().zip(squares).map(|(&sum, &square)| [sum, square].map(f64::from)).collect()
    });
    let moments = add_up(moments, if counted { to } else { 0 });
    // SAFETY: the walk of a forward pass writes each output of each channel.
    (unsafe { y.written() }, moments)
}
