//! Wide residual networks: normalisation and ReLU stand before each convolution.

use crate::residual::blocks;
use candle::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, BackboneInfo, Build, BuildCx, Grafts, Head, Mode, Result, Stage, StageInfo};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, Linear, init};
use sokd_ops::{Conv, add, global_avg_pool, normalize};

/// A stem of one bare convolution and three stages of pre-activation blocks; no dropout.
///
/// # Source
/// Zagoruyko and Komodakis, 2016 (arXiv:1605.07146), table 1; the names of weights and the initialisation from the code of
/// Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct WideResnet {
    /// Weighted layers: 6n + 4.
    pub depth: usize,
    /// How many times 16, 32 and 64 channels the stages have.
    pub widen: usize,
}

impl Default for WideResnet {
    fn default() -> Self {
        Self { depth: 16, widen: 2 }
    }
}

fn conv(from: usize, to: usize, kernel: usize, stride: usize, vb: VarBuilder<'_>) -> Result<Conv2d> {
    let draw = init::kaiming_normal_fan_out(kernel, to);
    Conv2d::new(from, to, kernel, Conv::same(kernel, stride), draw, None, vb)
}

/// `shortcut(x) + conv(relu(norm(conv(relu(norm x)))))`
struct Block {
    norm: BatchNorm,
    inner: ConvNorm,
    outer: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let shortcut = || conv(from, to, 1, stride, vb.pp("convShortcut"));
        let inner = conv(from, to, 3, stride, vb.pp("conv1"))?;
        Ok(Self {
            norm: BatchNorm::new(from, vb.pp("bn1"))?,
            inner: ConvNorm::new(inner, BatchNorm::new(to, vb.pp("bn2"))?),
            outer: conv(to, to, 3, 1, vb.pp("conv2"))?,
            shortcut: (from != to).then(shortcut).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let active = self.norm.forward(x, None, true, mode)?;
        let y = self.outer.forward(&self.inner.forward(&active, None, true, mode)?)?;
        match &self.shortcut {
            // Where channels change, the shortcut starts behind the activation.
            Some(shortcut) => add(&shortcut.forward(&active)?, &y),
            None => add(x, &y),
        }
    }
}

struct Net {
    info: BackboneInfo,
    stem: Conv2d,
    stages: Vec<Vec<Block>>,
    norm: BatchNorm,
    fc: Linear,
    grafts: Grafts,
}

impl Build<dyn Backbone> for WideResnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let (vb, data) = (&cx.vars, cx.data("wide-resnet")?);
        let widths = [16, 16 * self.widen, 32 * self.widen, 64 * self.widen];
        let (blocks, classes) = (blocks(self.depth, 2, 4)?, data.classes.len());
        let mut stages = Vec::new();
        for (index, pair) in widths.windows(2).enumerate() {
            let vb = vb.pp(format!("block{}.layer", index + 1));
            let block = |at: usize| match at {
                0 => Block::new(pair[0], pair[1], if index == 0 { 1 } else { 2 }, &vb.pp(0)),
                _ => Block::new(pair[1], pair[1], 1, &vb.pp(at)),
            };
            stages.push((0..blocks).map(block).collect::<Result<_>>()?);
        }
        let shape = |index: usize| StageInfo { channels: widths[index + 1], stride: 1 << index };
        Ok(Box::new(Net {
            info: BackboneInfo {
                stem: StageInfo { channels: widths[0], stride: 1 },
                stages: (0..3).map(shape).collect(),
                features: widths[3],
                classes,
                pixels: data.pixels,
            },
            stem: conv(3, widths[0], 3, 1, vb.pp("conv1"))?,
            stages,
            norm: BatchNorm::new(widths[3], vb.pp("bn1"))?,
            fc: Linear::new(
                widths[3],
                classes,
                init::kaiming_uniform(widths[3]),
                Some(init::ZERO),
                vb.pp("fc"),
            )?,
            grafts: Grafts::default(),
        }))
    }
}

impl Backbone for Net {
    fn info(&self) -> &BackboneInfo {
        &self.info
    }

    fn grafts(&mut self) -> Option<&mut Grafts> {
        Some(&mut self.grafts)
    }

    fn stem(&self, images: &Tensor, _: Mode) -> Result<Tensor> {
        self.stem.forward(&normalize(images, self.info.pixels.mean, self.info.pixels.std)?)
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        let forward = |block: &Block, x: &Tensor| block.forward(x, mode);
        let last = |block: &Block, x: &Tensor| Ok(Stage::new(block.forward(x, mode)?, None));
        self.grafts.stage((index, &self.stages[index]), input.clone(), mode, forward, last)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        let (map, said) = self.grafts.pooled(self.norm.forward(map, None, true, mode)?, mode)?;
        let pooled = global_avg_pool(&map)?;
        Ok(Head { logits: self.fc.forward(&pooled)?, pooled, said })
    }

    /// What the next block, or the head, makes of the map before its ReLU. The field's code teaches those running
    /// statistics a second time here; ours does not.
    fn preact(&self, index: usize, stage: &Stage, mode: Mode) -> Result<Tensor> {
        let norm = self.stages.get(index + 1).map_or(&self.norm, |blocks| &blocks[0].norm);
        norm.forward(&stage.map, None, false, mode.quiet())
    }
}
