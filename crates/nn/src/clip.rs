use candle::{Tensor, Var, backprop::GradStore};
use sokd_core::Result;
use sokd_ops::{clip, norm};

/// Scales gradients down until the norm of all of them together is at most `max`, and returns the norm they had, `()`.
///
/// # Source
/// Pascanu et al., 2013 (arXiv:1211.5063), section 3.2, as `torch.nn.utils.clip_grad_norm_`.
pub fn clip_grad_norm(vars: &[(String, Var)], grads: &mut GradStore, max: f64) -> Result<Tensor> {
    let vars: Vec<&Var> = vars.iter().map(|(_, var)| var).filter(|var| grads.get(var).is_some()).collect();
    let found: Vec<&Tensor> = vars.iter().filter_map(|var| grads.get(var)).collect();
    let (scaled, norm) = clip(&found, max)?;
    for (var, grad) in vars.into_iter().zip(scaled) {
        grads.insert(var, grad);
    }
    Ok(norm)
}

/// The norm of all gradients together that some weights have, `()`.
pub fn grad_norm<'a>(vars: impl IntoIterator<Item = &'a Var>, grads: &GradStore) -> Result<Tensor> {
    norm(&vars.into_iter().filter_map(|var| grads.get(var)).collect::<Vec<_>>())
}
