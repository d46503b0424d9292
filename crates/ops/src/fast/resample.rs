use super::numbers::{Channels, differentiable, filled, row, visit_channels};
use crate::Axis;
use crate::simd::{Kernel, Lanes, simd};
use candle::{Result, Tensor};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Weighted sums of input pixels; its own backward, with both matrices transposed.
pub(crate) fn resample(x: &Tensor, rows: Arc<Axis>, columns: Arc<Axis>) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let shape = (batch, rows.len(), columns.len(), channels);
    let (back_rows, back_columns) = (Arc::clone(&rows), Arc::clone(&columns));
    let forward = move |x: &[f32]| {
        let (from, to) = (height * width * channels, rows.len() * columns.len() * channels);
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let x = &x[index * from..][..from];
            simd().run(Image { x, out, rows: &rows, columns: &columns, width, channels });
        };
        // SAFETY: an image is `to` numbers, and `Image` writes each pixel.
        unsafe { filled(batch * to, to, work) }
    };
    differentiable("resample", x, shape, forward, move |_, _, grad| {
        resample(grad, Arc::new(back_rows.transpose()), Arc::new(back_columns.transpose()))
    })
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
