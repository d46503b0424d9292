//! ShuffleNetV2 with a stem for small images.

use crate::mobile::{Chain, DEFAULT, Net, depthwise, pointwise};
use crate::residual;
use candle::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{
    Backbone, BackboneInfo, Build, BuildCx, Error, Grafts, Lazy, Mode, Result, Stage, StageInfo,
};
use sokd_nn::ConvNorm;
use sokd_ops::{channel_concat, channel_interleave, channel_range};

/// A stem of single pixels and three stages of blocks that work on one half of their channels and deal out both. The last
/// convolution belongs to the head.
///
/// # Source
/// Ma et al., 2018 (arXiv:1807.11164), table 5, the network of size 1; the stem, the initialisation and the names of
/// weights from `kuangliu/pytorch-cifar`, as in the code of Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ShufflenetV2 {
    /// Channels of the stem, of each stage and of the embedding; those of the stages are even.
    pub widths: [usize; 5],
}

impl Default for ShufflenetV2 {
    fn default() -> Self {
        Self { widths: [24, 116, 232, 464, 1024] }
    }
}

/// Blocks of each stage.
const BLOCKS: [usize; 3] = [4, 8, 4];

/// Convolution, depthwise convolution, convolution, each normalised; no ReLU behind the middle one.
struct Branch {
    first: ConvNorm,
    depthwise: ConvNorm,
    last: ConvNorm,
}

impl Branch {
    /// `number`: of the first convolution among the block's weights.
    fn new(from: usize, half: usize, stride: usize, number: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let place =
            |after| [vb.pp(format!("conv{}", number + after)), vb.pp(format!("bn{}", number + after))];
        let ([conv, norm], [middle, middle_norm], [end, end_norm]) = (place(0), place(1), place(2));
        Ok(Self {
            first: pointwise([from, half], 1, DEFAULT, conv, norm)?,
            depthwise: depthwise(half, stride, DEFAULT, middle, middle_norm)?,
            last: pointwise([half, half], 1, DEFAULT, end, end_norm)?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.last.forward(&self.before_last(x, mode)?, None, true, mode)
    }

    /// The same, and what it is before its ReLU.
    fn rectified(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Lazy)> {
        self.last.rectified(&self.before_last(x, mode)?, None, mode)
    }

    fn before_last(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.depthwise.forward(&self.first.forward(x, None, true, mode)?, None, false, mode)
    }
}

/// Two halves of the channels, of which the second always goes through a branch.
struct Block {
    /// Where the map is halved: depthwise convolution and convolution, each normalised, of all channels.
    left: Option<[ConvNorm; 2]>,
    right: Branch,
    half: usize,
}

impl Block {
    fn halving(from: usize, half: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let left = [
            depthwise(from, 2, DEFAULT, vb.pp("conv1"), vb.pp("bn1"))?,
            pointwise([from, half], 1, DEFAULT, vb.pp("conv2"), vb.pp("bn2"))?,
        ];
        Ok(Self { left: Some(left), right: Branch::new(from, half, 2, 3, vb)?, half })
    }

    fn keeping(half: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { left: None, right: Branch::new(half, half, 1, 1, vb)?, half })
    }

    /// The left half as it stays, and what the right branch reads.
    fn halves(&self, x: &Tensor, mode: Mode) -> Result<[Tensor; 2]> {
        let Some([depthwise, last]) = &self.left else {
            let right = channel_range(x, self.half..2 * self.half)?;
            return Ok([channel_range(x, 0..self.half)?, right]);
        };
        Ok([last.forward(&depthwise.forward(x, None, false, mode)?, None, true, mode)?, x.clone()])
    }
}

impl Chain for Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let [left, right] = self.halves(x, mode)?;
        channel_interleave(&left, &self.right.forward(&right, mode)?)
    }

    /// The map is dealt out, what it was before its ReLU is not: the field's losses read the two so.
    fn last(&self, x: &Tensor, mode: Mode) -> Result<Stage> {
        let [left, right] = self.halves(x, mode)?;
        let (right, before) = self.right.rectified(&right, mode)?;
        let map = channel_interleave(&left, &right)?;
        Ok(Stage::new(map, Some(Lazy::new(move || channel_concat(&left, &before.tensor()?)))))
    }
}

impl Build<dyn Backbone> for ShufflenetV2 {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let (vb, data) = (&cx.vars, cx.data("shufflenet-v2")?);
        let (widths, classes) = (self.widths, data.classes.len());
        if widths[1..4].iter().any(|width| width % 2 != 0) {
            return Err(Error::setting("widths", format!("a stage of {widths:?} has no two halves")));
        }
        let mut stages = Vec::new();
        for (index, pair) in widths[..4].windows(2).enumerate() {
            let vb = vb.pp(format!("layer{}", index + 1));
            let block = |at: usize| match at {
                0 => Block::halving(pair[0], pair[1] / 2, &vb.pp(0)),
                _ => Block::keeping(pair[1] / 2, &vb.pp(at)),
            };
            stages.push((0..BLOCKS[index]).map(block).collect::<Result<_>>()?);
        }
        let shape = |index: usize| StageInfo { channels: widths[index + 1], stride: 2 << index };
        Ok(Box::new(Net {
            info: BackboneInfo {
                stem: StageInfo { channels: widths[0], stride: 1 },
                stages: (0..3).map(shape).collect(),
                features: widths[4],
                classes,
                pixels: data.pixels,
            },
            stem: pointwise([3, widths[0]], 1, DEFAULT, vb.pp("conv1"), vb.pp("bn1"))?,
            stages,
            last: Some(pointwise([widths[3], widths[4]], 1, DEFAULT, vb.pp("conv2"), vb.pp("bn2"))?),
            classifier: residual::classifier(widths[4], classes, vb.pp("linear"))?,
            grafts: Grafts::default(),
        }))
    }
}
