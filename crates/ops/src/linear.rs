use crate::backend::has_kernels;
use crate::gpu::Gpu;
use crate::trace::{Operation, noted};
use crate::{composed, fast, macs, widen};
use candle::Tensor;
use sokd_core::{Error, Result};

/// `x · weightᵀ + bias`, in single precision.
///
/// # Shapes
/// `x`: `(batch, from)`; `weight`: `(to, from)`; `bias`: `(to,)` → `(batch, to)`.
///
/// # Errors
/// [`Error::Shape`] when they do not fit together.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((batch, from), (to, reads)) = (x.dims2()?, weight.dims2()?);
    if from != reads {
        return Err(Error::Shape {
            what: "what a linear layer reads",
            expected: format!("(batch, {reads})"),
            got: x.dims().to_vec(),
        });
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [to]) {
        return Err(Error::Shape {
            what: "the bias of a linear layer",
            expected: format!("({to},)"),
            got: bias.dims().to_vec(),
        });
    }
    macs::count(batch * weight.elem_count());
    let work = || {
        let x = &widen(x)?;
        let ours = has_kernels(&[x, weight, bias.unwrap_or(x)]);
        Ok(match (Gpu::of(&[x]), bias) {
            (None, _) if ours => fast::linear(x, weight, bias)?,
            (Some(gpu), Some(bias)) if ours => fast::by_library(&gpu, x, weight, bias)?,
            _ => composed::linear(x, weight, bias)?,
        })
    };
    noted(&[x], || Operation::Linear { weight: weight.clone(), bias: bias.cloned() }, work)
}
