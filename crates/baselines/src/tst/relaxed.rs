use candle::Tensor;
use sokd_core::{Result, Stream};
use sokd_ops::sigmoid;

/// The noise of a relaxed bit: log u − log(1 − u), u even in (0, 1).
pub fn logistic(stream: &mut Stream) -> f64 {
    let uniform = stream.uniform().max(f64::MIN_POSITIVE);
    uniform.ln() - (-uniform).ln_1p()
}

/// A bit that is nearly 0 or 1, and has a slope: σ((noise + logit) / temperature).
///
/// # Shapes
/// `logit`, `noise`: alike, or broadcast.
///
/// # Source
/// Maddison et al., 2017 (arXiv:1611.00712), appendix B: the binary Concrete distribution.
pub fn relaxed_bit(logit: &Tensor, noise: &Tensor, temperature: f64) -> Result<Tensor> {
    sigmoid(&(logit.broadcast_add(noise)? / temperature)?.contiguous()?)
}
