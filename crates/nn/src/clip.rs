use candle::{Var, backprop::GradStore};
use sokd_core::Result;

/// Scales gradients down until the norm of all of them together is at most `max`, and returns the norm they had.
///
/// # Source
/// Pascanu et al., 2013 (arXiv:1211.5063), section 3.2, as `torch.nn.utils.clip_grad_norm_`.
pub fn clip_grad_norm(vars: &[(String, Var)], grads: &mut GradStore, max: f64) -> Result<f64> {
    let mut square = 0.0;
    for (_, var) in vars {
        if let Some(grad) = grads.get(var) {
            square += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
    }
    let norm = square.sqrt();
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
