use super::numbers::filled;
use crate::gpu::Gpu;
use crate::record::{Backward, compute, record, tensor};
use candle::{D, Result, Storage, Tensor};
use std::mem::MaybeUninit;

/// Rows a thread takes at once.
const ROWS: usize = 16;

/// On a GPU: rows to rows of the same width.
fn rows<const N: usize>(gpu: &Gpu, kernel: &'static str, reads: [&Tensor; N]) -> Result<Storage> {
    let (count, width) = (reads[0].elem_count(), reads[0].dim(D::Minus1)?);
    gpu.rows(kernel, reads.map(Some), (count, width, count / width), [])
}

/// One row at a time: the shift, the sum and the result while the row is in the nearest cache.
pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let classes = x.dim(D::Minus1)?;
    let here = |[x]: [&[f32]; 1]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let rows = x[index * ROWS * classes..].chunks_exact(classes);
            for (out, x) in out.chunks_exact_mut(classes).zip(rows) {
                let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = x.iter().map(|&x| f64::from((x - max).exp())).sum();
                let log_sum = sum.ln() as f32;
                for (out, &x) in out.iter_mut().zip(x) {
                    out.write(x - max - log_sum);
                }
            }
        };
        // SAFETY: chunks are whole rows.
        unsafe { filled(x.len(), ROWS * classes, work) }
    };
    let y = compute([x], here, |gpu| rows(gpu, "log_softmax", [x]))?;
    record([x], y, x.shape(), LogSoftmax { classes })
}

struct LogSoftmax {
    classes: usize,
}

impl Backward<1> for LogSoftmax {
    const NAME: &'static str = "log-softmax";

    fn reads(&self, _: bool) -> ([bool; 1], bool) {
        ([false], true)
    }

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let classes = self.classes;
        let here = |[y, gradient]: [&[f32]; 2]| {
            let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                let from = index * ROWS * classes;
                let rows = y[from..].chunks_exact(classes).zip(gradient[from..].chunks_exact(classes));
                for (out, (y, gradient)) in out.chunks_exact_mut(classes).zip(rows) {
                    let sum = gradient.iter().copied().map(f64::from).sum::<f64>() as f32;
                    for (out, (&y, &gradient)) in out.iter_mut().zip(y.iter().zip(gradient)) {
                        out.write(gradient - y.exp() * sum);
                    }
                }
            };
            // SAFETY: chunks are whole rows.
            unsafe { filled(y.len(), ROWS * classes, work) }
        };
        let of_x = compute([y, gradient], here, |gpu| rows(gpu, "log_softmax_back", [y, gradient]))?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}

/// Vectors shorter than this are only divided by it.
const SHORT: f32 = 1e-12;

fn length(x: &[f32]) -> f32 {
    (x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32).max(SHORT)
}

pub(crate) fn unit(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let here = |[x]: [&[f32]; 1]| {
        let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
            let rows = x[index * ROWS * width..].chunks_exact(width);
            for (out, x) in out.chunks_exact_mut(width).zip(rows) {
                let scale = length(x).recip();
                out.iter_mut().zip(x).for_each(|(out, &x)| {
                    out.write(x * scale);
                });
            }
        };
        // SAFETY: chunks are whole rows.
        unsafe { filled(x.len(), ROWS * width, work) }
    };
    let y = compute([x], here, |gpu| rows(gpu, "unit", [x]))?;
    record([x], y, x.shape(), Unit { width })
}

struct Unit {
    width: usize,
}

impl Backward<1> for Unit {
    const NAME: &'static str = "unit";

    fn reads(&self, _: bool) -> ([bool; 1], bool) {
        ([true], true)
    }

    fn gradients(&self, [x]: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let width = self.width;
        let here = |[x, y, gradient]: [&[f32]; 3]| {
            let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                let from = index * ROWS * width;
                let rows = x[from..].chunks_exact(width).zip(y[from..].chunks_exact(width));
                let rows = rows.zip(gradient[from..].chunks_exact(width));
                for (out, ((x, y), gradient)) in out.chunks_exact_mut(width).zip(rows) {
                    let length = length(x);
                    let along =
                        y.iter().zip(gradient).map(|(&y, &g)| f64::from(y) * f64::from(g)).sum::<f64>();
                    // A vector that is only divided grows as it likes.
                    let along = if length > SHORT { along as f32 } else { 0.0 };
                    let scale = length.recip();
                    for (out, (&y, &gradient)) in out.iter_mut().zip(y.iter().zip(gradient)) {
                        out.write((gradient - y * along) * scale);
                    }
                }
            };
            // SAFETY: chunks are whole rows.
            unsafe { filled(y.len(), ROWS * width, work) }
        };
        let of_x = compute([x, y, gradient], here, |gpu| rows(gpu, "unit_back", [x, y, gradient]))?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}
