use super::numbers::{Channels, filled, row, visit_channels};
use crate::Axis;
use crate::gpu::{Arg, Gpu, over, tables};
use crate::record::{Backward, compute, record};
use crate::simd::{Kernel, Lanes, simd};
use candle::{Result, Shape, Tensor};
use std::mem::MaybeUninit;

pub(crate) fn resample(x: &Tensor, rows: &Axis, columns: &Axis) -> Result<Tensor> {
    resample_as(x, rows, columns, (x.dim(0)?, rows.len(), columns.len(), x.dim(3)?))
}

/// The same, in another shape of as many numbers.
pub(crate) fn resample_as(
    x: &Tensor,
    rows: &Axis,
    columns: &Axis,
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let (from, to) = (height * width * channels, rows.len() * columns.len() * channels);
    let here = |[x]: [&[f32]; 1]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let x = &x[index * from..][..from];
            simd().run(Image { x, out, rows, columns, width, channels });
        };
        // SAFETY: an image is `to` numbers, and `Image` writes each pixel.
        unsafe { filled(batch * to, to, work) }
    };
    let there = |gpu: &Gpu| {
        let (down, right) = (tables(rows, x.device())?, tables(columns, x.device())?);
        let sizes = [height, width, rows.len(), columns.len(), channels].map(Arg::Int);
        let reads = [x, &down[0], &down[1], &down[2], &right[0], &right[1], &right[2]];
        gpu.each(over(x, "resample"), reads, batch * to, sizes)
    };
    let y = compute([x], here, there)?;
    let back = Resample { rows: rows.transpose(), columns: columns.transpose() };
    record([x], y, shape, back)
}

/// Both matrices, transposed.
struct Resample {
    rows: Axis,
    columns: Axis,
}

impl Backward<1> for Resample {
    const NAME: &'static str = "resample";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(&self, [x]: [&Tensor; 1], _: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let Self { rows, columns } = self;
        let gradient = gradient.reshape((x.dim(0)?, rows.inputs(), columns.inputs(), x.dim(3)?))?;
        Ok([Some(resample(&gradient, rows, columns)?)])
    }
}

/// One image.
struct Image<'a> {
    x: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
    rows: &'a Axis,
    columns: &'a Axis,
    width: usize,
    channels: usize,
}

impl Kernel for Image<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { x, out, rows, columns, width, channels } = self;
        for (row, out) in out.chunks_exact_mut(columns.len() * channels).enumerate() {
            for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                let (rows, columns) = (rows.line(row), columns.line(column));
                visit_channels(channels, &mut Pixel { x, out, rows, columns, width, channels });
            }
        }
    }
}

/// One output pixel.
struct Pixel<'a> {
    x: &'a [f32],
    out: &'a mut [MaybeUninit<f32>],
    rows: &'a [(usize, f64)],
    columns: &'a [(usize, f64)],
    width: usize,
    channels: usize,
}

impl Channels for Pixel<'_> {
    #[inline(always)]
    fn visit<const N: usize>(&mut self, first: usize) {
        let mut sum = [0.0; N];
        for &(line, row_weight) in self.rows {
            for &(column, column_weight) in self.columns {
                let weight = (row_weight * column_weight) as f32;
                let x = row::<N>(self.x, (line * self.width + column) * self.channels + first);
                for (sum, x) in sum.iter_mut().zip(x) {
                    *sum += weight * x;
                }
            }
        }
        self.out[first..first + N].write_copy_of_slice(&sum);
    }
}
