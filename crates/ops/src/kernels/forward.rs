//! The convolution itself.

use super::backward::Given;
use super::buffer::{Fresh, Scratch};
use super::geometry::Geometry;
use super::norm::add_up;
use super::pack::Direction;
use super::pass::{Bordered, Pass};
use super::pointwise;
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
    let (from_len, to_len, to) = (geometry.input_len(), geometry.output_len(), geometry.to);
    let mut y = Fresh::new(geometry.batch * to_len);
    let out = y.as_mut_ptr();
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
    if geometry.pointwise() {
        let moments = pointwise::forward(simd, geometry, x, kernel, out, finish);
        // SAFETY: the product covers each output of each channel.
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
        counting(finish.at(0, image * to_len), to, |finish| {
            // SAFETY: each image is written by one piece of work.
            unsafe {
                let (x, y) = (x[image * from_len..].as_ptr(), out.at(image * to_len));
                let next =
                    [(x.wrapping_add(from_len), from_len), (y.wrapping_add(to_len).cast_const(), to_len)];
                pass.image(map.padded(), y, finish, next);
            };
        })
    });
    let moments = add_up(moments, if finish.pivot.is_null() { 0 } else { to });
    // SAFETY: the walk of a forward pass writes each output of each channel.
    (unsafe { y.written() }, moments)
}

/// Runs a piece of work, and gives the moments of what it writes where `finish` has a pivot.
pub(super) fn counting(finish: Finish, channels: usize, work: impl FnOnce(Finish)) -> Moments {
    let counted = if finish.pivot.is_null() { 0 } else { channels };
    let mut sums = Scratch::zeros(2 * counted);
    let (sum, square) = if counted == 0 {
        (std::ptr::null_mut(), std::ptr::null_mut())
    } else {
        (sums.as_mut_ptr(), sums.as_mut_ptr().wrapping_add(counted))
    };
    work(Finish { sum, square, ..finish });
    let (sums, squares) = sums.split_at(counted);
    sums.iter().zip(squares).map(|(&sum, &square)| [sum, square].map(f64::from)).collect()
}
