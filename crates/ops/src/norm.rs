use crate::composed;
use candle::Tensor;
use sokd_core::{Mode, Result};

/// What a batch normalisation knows, each `(channels,)`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Scale.
    pub weight: &'a Tensor,
    /// Shift.
    pub bias: &'a Tensor,
    /// Running mean, updated in place in [`Mode::Train`].
    pub mean: &'a Tensor,
    /// Running variance without bias, updated in place in [`Mode::Train`].
    pub var: &'a Tensor,
    /// Added to variances.
    pub eps: f64,
    /// Weight of the newest batch in the running statistics.
    pub momentum: f64,
}

/// `relu?(norm(x) + residual?)`.
pub fn batch_norm(
    x: &Tensor,
    norm: &Norm<'_>,
    residual: Option<&Tensor>,
    relu: bool,
    mode: Mode,
) -> Result<Tensor> {
    composed::batch_norm(x, norm, residual, relu, mode)
}
