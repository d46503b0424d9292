//! What the networks of He et al. share, whatever their blocks and shortcuts: stem, stages of residual blocks, head.

use candle::Tensor;
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, BackboneInfo, BuildCx, Error, Grafts, Head, Mode, Result, Stage, StageInfo};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, Linear, init};
use sokd_ops::{Conv, Pool, channel_pad, global_avg_pool, max_pool2d, normalize};

/// How a convolution's weights are drawn: of its kernel, its channels in and its channels out.
pub(crate) type Draw = fn(usize, usize, usize) -> Init;

/// As most of the field draws them.
pub(crate) const FAN_OUT: Draw = |kernel, _, to| init::kaiming_normal_fan_out(kernel, to);

/// A convolution without bias, and its normalisation. `shape`: channels in, channels out, kernel, stride.
pub(crate) fn conv_norm(
    shape: [usize; 4],
    draw: Draw,
    conv: VarBuilder<'_>,
    norm: VarBuilder<'_>,
) -> Result<ConvNorm> {
    let [from, to, kernel, stride] = shape;
    let conv = Conv2d::new(from, to, kernel, Conv::same(kernel, stride), draw(kernel, from, to), None, conv)?;
    Ok(ConvNorm::new(conv, BatchNorm::new(to, norm)?))
}

/// A classifier drawn as PyTorch draws a `Linear`.
pub(crate) fn classifier(features: usize, classes: usize, vb: VarBuilder<'_>) -> Result<Linear> {
    let draw = init::kaiming_uniform(features);
    Linear::new(features, classes, draw, Some(draw), vb)
}

/// How many blocks each of three stages has, of `layers` layers each, beside `others` layers of the network.
pub(crate) fn blocks(depth: usize, layers: usize, others: usize) -> Result<usize> {
    let each = 3 * layers;
    match depth.checked_sub(others) {
        Some(inner) if inner > 0 && inner % each == 0 => Ok(inner / each),
        _ => Err(Error::setting("depth", format!("{depth} is not {each}n + {others} with n ≥ 1"))),
    }
}

/// How a block's input reaches its end.
pub(crate) enum Shortcut {
    /// As it is.
    Identity,
    /// Through a convolution of single pixels and its normalisation: option B.
    Project(ConvNorm),
    /// Every other pixel, and this many channels of zeros on either side: option A.
    Pad(usize),
}

impl Shortcut {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x.clone()),
            Self::Project(project) => project.forward(x, None, false, mode),
            // A pool over single pixels takes every other one, and its gradient puts it back.
            Self::Pad(side) => channel_pad(&max_pool2d(x, Pool::square(1, 2))?, [*side; 2]),
        }
    }
}

/// `relu(norm(conv(… relu(norm(conv x)))) + shortcut(x))`.
pub(crate) struct Block {
    convs: Vec<ConvNorm>,
    shortcut: Shortcut,
}

impl Block {
    /// `shapes`: what [`conv_norm`] asks for. The weights are `conv1`, `bn1`, `conv2`, and so on.
    pub fn new(shapes: &[[usize; 4]], shortcut: Shortcut, draw: Draw, vb: &VarBuilder<'_>) -> Result<Self> {
        let conv = |(number, shape): (usize, &[usize; 4])| {
            conv_norm(*shape, draw, vb.pp(format!("conv{number}")), vb.pp(format!("bn{number}")))
        };
        Ok(Self { convs: (1..).zip(shapes).map(conv).collect::<Result<_>>()?, shortcut })
    }

    /// The last convolution, and what it reads: the branch, and the shortcut beside it.
    fn branch(&self, x: &Tensor, mode: Mode) -> Result<(&ConvNorm, Tensor, Tensor)> {
        let (last, before) = self.convs.split_last().expect("every family's blocks have convolutions");
        let mut y = x.clone();
        for conv in before {
            y = conv.forward(&y, None, true, mode)?;
        }
        Ok((last, y, self.shortcut.forward(x, mode)?))
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (last, y, shortcut) = self.branch(x, mode)?;
        last.forward(&y, Some(&shortcut), true, mode)
    }

    /// The same of a stage's last block.
    fn last(&self, x: &Tensor, mode: Mode) -> Result<Stage> {
        let (last, y, shortcut) = self.branch(x, mode)?;
        rectified(last, &y, Some(&shortcut), mode)
    }
}

/// What images meet first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// A convolution of 3 × 3: for images of 32 × 32 pixels.
    #[default]
    Cifar,
    /// A convolution of 7 × 7 with a stride of 2 and, behind it, a pool of 3 × 3 with a stride of 2: for images of
    /// 224 × 224 pixels.
    Imagenet,
}

impl Stem {
    /// Size and stride of the convolution.
    fn kernel(self) -> [usize; 2] {
        match self {
            Self::Cifar => [3, 1],
            Self::Imagenet => [7, 2],
        }
    }

    /// What the first stage reads. The field shows a stem's map as it is before the pool.
    fn pool(self, map: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cifar => Ok(map.clone()),
            Self::Imagenet => max_pool2d(map, Pool { padding: [1; 2], ..Pool::square(3, 2) }),
        }
    }

    /// Pixels of an image per pixel of the first stage's map, along one side.
    fn stride(self) -> usize {
        match self {
            Self::Cifar => 1,
            Self::Imagenet => 4,
        }
    }
}

/// What tells the families apart.
pub(crate) struct Plan<'a, B> {
    pub stem: Stem,
    /// Channels of the stem and of each stage.
    pub widths: &'a [usize],
    /// Blocks of each stage.
    pub blocks: &'a [usize],
    pub draw: Draw,
    /// Of channels in, channels out, stride and the place of its weights.
    pub block: B,
    pub classifier: Linear,
}

impl<B: Fn(usize, usize, usize, &VarBuilder<'_>) -> Result<Block>> Plan<'_, B> {
    /// Every stage but the first halves the map, in its first block.
    pub fn build(self, cx: &BuildCx<'_>, who: &'static str) -> Result<Box<dyn Backbone>> {
        let (vb, data, widths) = (&cx.vars, cx.data(who)?, self.widths);
        let mut stages = Vec::new();
        for (index, (pair, &blocks)) in widths.windows(2).zip(self.blocks).enumerate() {
            let vb = vb.pp(format!("layer{}", index + 1));
            let block = |at: usize| match at {
                0 => (self.block)(pair[0], pair[1], if index == 0 { 1 } else { 2 }, &vb.pp(0)),
                _ => (self.block)(pair[1], pair[1], 1, &vb.pp(at)),
            };
            stages.push((0..blocks).map(block).collect::<Result<_>>()?);
        }
        let shape =
            |(index, &channels): (usize, &usize)| StageInfo { channels, stride: self.stem.stride() << index };
        let [kernel, stride] = self.stem.kernel();
        let info = BackboneInfo {
            stem: StageInfo { channels: widths[0], stride },
            stages: widths[1..].iter().enumerate().map(shape).collect(),
            features: widths[widths.len() - 1],
            classes: data.classes.len(),
            pixels: data.pixels,
        };
        let first = conv_norm([3, widths[0], kernel, stride], self.draw, vb.pp("conv1"), vb.pp("bn1"))?;
        Ok(Box::new(Net {
            info,
            stem: self.stem,
            first,
            stages,
            classifier: self.classifier,
            grafts: Grafts::default(),
        }))
    }
}

struct Net {
    info: BackboneInfo,
    stem: Stem,
    first: ConvNorm,
    stages: Vec<Vec<Block>>,
    classifier: Linear,
    grafts: Grafts,
}

/// A stage that ends in a convolution, its normalisation, perhaps a sum, and a ReLU.
pub(crate) fn rectified(last: &ConvNorm, x: &Tensor, residual: Option<&Tensor>, mode: Mode) -> Result<Stage> {
    let (map, preact) = last.rectified(x, residual, mode)?;
    Ok(Stage::new(map, Some(preact)))
}

impl Backbone for Net {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn grafts(&mut self) -> Option<&mut Grafts> {
        Some(&mut self.grafts)
    }

    fn stem(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let pixels = self.info.pixels;
        self.first.forward(&normalize(images, pixels.mean, pixels.std)?, None, true, mode)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        let x = if index == 0 { self.stem.pool(input)? } else { input.clone() };
        let forward = |block: &Block, x: &Tensor| block.forward(x, mode);
        let last = |block: &Block, x: &Tensor| block.last(x, mode);
        self.grafts.stage((index, &self.stages[index]), x, mode, forward, last)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        let (map, said) = self.grafts.pooled(map.clone(), mode)?;
        let pooled = global_avg_pool(&map)?;
        Ok(Head { logits: self.classifier.forward(&pooled)?, pooled, said })
    }
}
