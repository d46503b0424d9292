use super::numbers::{differentiable, filled, of_two};
use candle::{D, Result, Tensor};
use std::mem::MaybeUninit;

/// Rows a thread takes at once.
const ROWS: usize = 16;

/// One row at a time: the shift, the sum and the result while the row is in the nearest cache.
pub(crate) fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let classes = x.dim(D::Minus1)?;
    let forward = move |x: &[f32]| {
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
    differentiable("log-softmax", x, x.shape(), forward, move |_, y, grad| {
        of_two("log-softmax-backward", y, grad, y.shape(), |y, grad| {
            let work = |index: usize, out: &mut [MaybeUninit<f32>]| {
                let from = index * ROWS * classes;
                let rows = y[from..].chunks_exact(classes).zip(grad[from..].chunks_exact(classes));
                for (out, (y, grad)) in out.chunks_exact_mut(classes).zip(rows) {
                    let sum = grad.iter().copied().map(f64::from).sum::<f64>() as f32;
                    for (out, (&y, &grad)) in out.iter_mut().zip(y.iter().zip(grad)) {
                        out.write(grad - y.exp() * sum);
                    }
                }
            };
            // SAFETY: chunks are whole rows.
            unsafe { filled(y.len(), ROWS * classes, work) }
        })
    })
}
