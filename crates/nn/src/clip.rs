use candle::{DType, Tensor, Var, backprop::GradStore};
use sokd_core::Result;

/// Scales gradients down until the norm of all of them together is at most `max`, and returns the norm they had.
///
/// # Source
/// Pascanu et al., 2013 (arXiv:1211.5063), section 3.2, as `torch.nn.utils.clip_grad_norm_`.
pub fn clip_grad_norm(vars: &[(String, Var)], grads: &mut GradStore, max: f64) -> Result<f64> {
    let norm = grad_norm(vars.iter().map(|(_, var)| var), grads)?;
    // PyTorch's guard against a norm of 0.
    let scale = max / (norm + 1e-6);
    if scale < 1.0 {
        for (_, var) in vars {
            if let Some(grad) = grads.remove(var) {
                grads.insert(var, (grad * scale)?);
            }
        }
    }
    Ok(norm)
}

/// The norm of all gradients together that some weights have.
pub fn grad_norm<'a>(vars: impl IntoIterator<Item = &'a Var>, grads: &GradStore) -> Result<f64> {
    let squares = vars.into_iter().filter_map(|var| grads.get(var)).map(|grad| grad.sqr()?.sum_all());
    let squares = squares.collect::<candle::Result<Vec<_>>>()?;
    if squares.is_empty() {
        return Ok(0.0);
    }
    // All in one journey: whoever asks a GPU for a number waits until it has come so far.
    let squares = Tensor::stack(&squares, 0)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    Ok(squares.into_iter().map(f64::from).sum::<f64>().sqrt())
}
