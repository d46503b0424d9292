//! What the networks for small devices share: convolutions that mix channels or pixels, never both.

use crate::residual::Draw;
use candle_nn::VarBuilder;
use sokd_core::Result;
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, init};
use sokd_ops::Conv;

/// As PyTorch draws a `Conv2d` when nothing else is said.
pub(crate) const DEFAULT: Draw = |kernel, from, _| init::kaiming_uniform(kernel * kernel * from);

/// A convolution of single pixels without bias, and its normalisation.
pub(crate) fn pointwise(
    [from, to]: [usize; 2],
    groups: usize,
    draw: Draw,
    conv: VarBuilder<'_>,
    norm: VarBuilder<'_>,
) -> Result<ConvNorm> {
    let shape = Conv { groups, ..Conv::default() };
    let draw = draw(1, from / groups.max(1), to);
    Ok(ConvNorm::new(Conv2d::new(from, to, 1, shape, draw, None, conv)?, BatchNorm::new(to, norm)?))
}

/// A convolution of 3 × 3 pixels without bias, each channel by itself, and its normalisation.
pub(crate) fn depthwise(
    channels: usize,
    stride: usize,
    draw: Draw,
    conv: VarBuilder<'_>,
    norm: VarBuilder<'_>,
) -> Result<ConvNorm> {
    let shape = Conv { groups: channels, ..Conv::same(3, stride) };
    let conv = Conv2d::new(channels, channels, 3, shape, draw(3, 1, channels), None, conv)?;
    Ok(ConvNorm::new(conv, BatchNorm::new(channels, norm)?))
}
