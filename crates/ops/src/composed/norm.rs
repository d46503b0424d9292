use crate::{Moved, Norm, axpby_};
use candle::Tensor;
use sokd_core::{Mode, Result};

pub(crate) fn batch_norm(
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    let (mean, var) = match mode {
        Mode::Eval => (norm.mean.detach(), norm.var.detach()),
        Mode::Train | Mode::Probe => {
            let count = x.elem_count() / norm.weight.elem_count();
            let rows = x.reshape((count, ()))?;
            let mean = rows.mean(0)?;
            let var = rows.broadcast_sub(&mean)?.sqr()?.mean(0)?;
            if mode == Mode::Train {
                let keep = 1.0 - norm.momentum;
                // What the statistics of unseen images will be is estimated without bias; the batch's own is not.
                let unbiased = count as f64 / (count.max(2) - 1) as f64;
                let unseen = (var.detach() * unbiased)?;
                let moved = [Moved::new(norm.mean, &mean), Moved::new(norm.var, &unseen)];
                axpby_(&moved, norm.momentum, keep)?;
            }
            (mean, var)
        }
    };
    let scale = (norm.weight / (var + norm.eps)?.sqrt()?)?;
    let mut y = x.broadcast_sub(&mean)?.broadcast_mul(&scale)?.broadcast_add(norm.bias)?;
    if let Some(residual) = residual {
        y = (y + residual)?;
    }
    Ok(if relu { super::relu(&y)? } else { y })
}
