//! What the networks for small devices share: convolutions that mix channels or pixels, never both, and a plan of a stem,
//! stages of blocks and perhaps a last convolution.

use crate::residual::Draw;
use candle::Tensor;
use candle_nn::VarBuilder;
use sokd_core::{Backbone, BackboneInfo, Grafts, Head, Mode, Result, Stage};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, Linear, init};
use sokd_ops::{Conv, global_avg_pool, normalize};

/// Blocks of one family, one behind the other.
pub(crate) trait Chain: Sized + Send + Sync {
    /// What the next block reads.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor>;

    /// The same of a stage's last block, and what it was before its ReLU where it has one.
    fn last(&self, x: &Tensor, mode: Mode) -> Result<Stage>;
}

/// A network of such blocks.
pub(crate) struct Net<B> {
    pub(crate) info: BackboneInfo,
    pub(crate) stem: ConvNorm,
    pub(crate) stages: Vec<Vec<B>>,
    /// A convolution between the last stage and the pool.
    pub(crate) last: Option<ConvNorm>,
    pub(crate) classifier: Linear,
    pub(crate) grafts: Grafts,
}

impl<B: Chain> Backbone for Net<B> {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn grafts(&mut self) -> Option<&mut Grafts> {
        Some(&mut self.grafts)
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let pixels = self.info.pixels;
        self.stem.forward(&normalize(images, pixels.mean, pixels.std)?, None, true, mode)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        let forward = |block: &B, x: &Tensor| block.forward(x, mode);
        let last = |block: &B, x: &Tensor| block.last(x, mode);
        self.grafts.stage((index, &self.stages[index]), input.clone(), mode, forward, last)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        let map = match &self.last {
            Some(last) => last.forward(map, None, true, mode)?,
            None => map.clone(),
        };
        let (map, said) = self.grafts.pooled(map, mode)?;
        let pooled = global_avg_pool(&map)?;
        Ok(Head { logits: self.classifier.forward(&pooled)?, pooled, said })
    }
}

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
