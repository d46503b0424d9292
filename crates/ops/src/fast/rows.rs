use super::numbers::filled;
use crate::record::{Backward, read, record1, tensor};
use candle::{D, Result, Tensor};
use std::mem::MaybeUninit;

/// Rows a thread takes at once.
const ROWS: usize = 16;

/// One row at a time: the shift, the sum and the result while the row is in the nearest cache.
pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let classes = x.dim(D::Minus1)?;
    let y = read([x], |[x]| {
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
    })?;
    record1(x, y, x.shape(), LogSoftmax { classes })
}

struct LogSoftmax {
    classes: usize,
}

impl Backward<1> for LogSoftmax {
    const NAME: &'static str = "log-softmax";

    fn gradients(&self, _: [&Tensor; 1], y: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; 1]> {
        let classes = self.classes;
        let of_x = read([y, gradient], |[y, gradient]| {
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
        })?;
        Ok([Some(tensor(of_x, y.shape()))])
    }
}
