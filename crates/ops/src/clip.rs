use crate::backend::gpu_for;
use crate::gpu;
use candle::{DType, Device, Tensor};
use sokd_core::Result;

/// The norm of gradients, that of all of them together: `()`. A GPU finds it for itself and is not waited for.
pub fn norm(grads: &[&Tensor]) -> Result<Tensor> {
    if let Some(gpu) = gpu_for(grads) {
        return Ok(gpu::norm(&gpu, grads, 1.0)?.narrow(0, 0, 1)?.squeeze(0)?);
    }
    let norm = told(grads)? as f32;
    Ok(match grads.first() {
        Some(grad) => Tensor::new(norm, grad.device())?.to_dtype(grad.dtype())?,
        None => Tensor::new(norm, &Device::Cpu)?,
    })
}

/// Gradients scaled down until their norm, that of all of them together, is at most `max`; and the norm that they had, `()`.
///
/// # Source
/// Pascanu et al., 2013 (arXiv:1211.5063), section 3.2, with PyTorch's 1e-6 against a norm of 0.
pub fn clip(grads: &[&Tensor], max: f64) -> Result<(Vec<Tensor>, Tensor)> {
    if let Some(gpu) = gpu_for(grads) {
        return Ok(gpu::clip(&gpu, grads, max)?);
    }
    let norm = told(grads)?;
    let scale = max / (norm + 1e-6);
    let scaled = |grad: &&Tensor| if scale < 1.0 { *grad * scale } else { Ok((*grad).clone()) };
    let device = grads.first().map_or(&Device::Cpu, |grad| grad.device());
    Ok((grads.iter().map(scaled).collect::<candle::Result<_>>()?, Tensor::new(norm as f32, device)?))
}

/// The norm of all, on this side.
fn told(grads: &[&Tensor]) -> Result<f64> {
    let squares = grads.iter().map(|grad| grad.sqr()?.sum_all()).collect::<candle::Result<Vec<_>>>()?;
    if squares.is_empty() {
        return Ok(0.0);
    }
    // All in one journey: whoever asks a device for a number waits until it has come so far.
    let squares = Tensor::stack(&squares, 0)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    Ok(squares.into_iter().map(f64::from).sum::<f64>().sqrt())
}
