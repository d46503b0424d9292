use crate::macs;
use candle::Tensor;
use sokd_core::Result;

/// `x · weightᵀ + bias`.
///
/// # Shapes
/// `x`: `(batch, from)`; `weight`: `(to, from)`; `bias`: `(to,)` → `(batch, to)`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    macs::count(x.dim(0)? * weight.elem_count());
    let y = x.matmul(&weight.t()?)?;
    Ok(match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    })
}
