//! ShuffleNet with a stem for small images.

use crate::mobile::{Chain, DEFAULT, Net, depthwise, pointwise};
use crate::residual::{self, rectified};
use candle::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, BackboneInfo, Build, BuildCx, Error, Grafts, Mode, Result, Stage, StageInfo};
use sokd_nn::ConvNorm;
use sokd_ops::{Pool, avg_pool2d, channel_concat, channel_shuffle, relu};

/// A stem of single pixels and three stages of grouped convolutions, whose channels are dealt out between them.
///
/// # Source
/// Zhang et al., 2017 (arXiv:1707.01083), table 1; the stem, the ReLU behind depthwise convolutions, the initialisation
/// and the names of weights from `kuangliu/pytorch-cifar`, as in the code of Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ShufflenetV1 {
    /// Channels of the stem and of each stage.
    pub widths: [usize; 4],
    /// Into how many the convolutions of single pixels part their channels.
    pub groups: usize,
}

impl Default for ShufflenetV1 {
    fn default() -> Self {
        Self { widths: [24, 240, 480, 960], groups: 3 }
    }
}

/// Blocks of each stage.
const BLOCKS: [usize; 3] = [4, 8, 4];

/// `relu(norm(conv(relu(norm(depthwise(shuffle(relu(norm(conv x)))))))) + x)`; where the map is halved, the pooled `x`
/// stands behind the other channels instead.
struct Block {
    narrow: ConvNorm,
    groups: usize,
    depthwise: ConvNorm,
    widen: ConvNorm,
    halves: bool,
}

impl Block {
    /// `groups`: of the first convolution and of the last.
    fn new([from, to]: [usize; 2], halves: bool, groups: [usize; 2], vb: &VarBuilder<'_>) -> Result<Self> {
        let own = if halves { to.saturating_sub(from) } else { to };
        let inner = own / 4;
        if inner == 0 {
            return Err(Error::setting(
                "widths",
                format!("{to} channels behind {from} leave none to a block"),
            ));
        }
        Ok(Self {
            narrow: pointwise([from, inner], groups[0], DEFAULT, vb.pp("conv1"), vb.pp("bn1"))?,
            groups: groups[0],
            depthwise: depthwise(inner, 1 + usize::from(halves), DEFAULT, vb.pp("conv2"), vb.pp("bn2"))?,
            widen: pointwise([inner, own], groups[1], DEFAULT, vb.pp("conv3"), vb.pp("bn3"))?,
            halves,
        })
    }

    /// What the last convolution reads.
    fn before_last(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let y = channel_shuffle(&self.narrow.forward(x, None, true, mode)?, self.groups)?;
        self.depthwise.forward(&y, None, true, mode)
    }
}

impl Chain for Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let y = self.before_last(x, mode)?;
        if !self.halves {
            return self.widen.forward(&y, Some(x), true, mode);
        }
        let pooled = relu(&avg_pool2d(x, Pool { padding: [1; 2], ..Pool::square(3, 2) }, true)?)?;
        channel_concat(&self.widen.forward(&y, None, true, mode)?, &pooled)
    }

    /// Never one that halves its map: a stage begins with that.
    fn last(&self, x: &Tensor, mode: Mode) -> Result<Stage> {
        rectified(&self.widen, &self.before_last(x, mode)?, Some(x), mode)
    }
}

impl Build<dyn Backbone> for ShufflenetV1 {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let (vb, data) = (&cx.vars, cx.data("shufflenet-v1")?);
        let (widths, groups, classes) = (self.widths, self.groups, data.classes.len());
        let mut stages = Vec::new();
        for (index, pair) in widths.windows(2).enumerate() {
            let vb = vb.pp(format!("layer{}", index + 1));
            let block = |at: usize| match (index, at) {
                // The stem's channels are too few to part.
                (0, 0) => Block::new([pair[0], pair[1]], true, [1, groups], &vb.pp(0)),
                (_, 0) => Block::new([pair[0], pair[1]], true, [groups; 2], &vb.pp(0)),
                _ => Block::new([pair[1]; 2], false, [groups; 2], &vb.pp(at)),
            };
            stages.push((0..BLOCKS[index]).map(block).collect::<Result<_>>()?);
        }
        let shape = |index: usize| StageInfo { channels: widths[index + 1], stride: 2 << index };
        Ok(Box::new(Net {
            info: BackboneInfo {
                stem: StageInfo { channels: widths[0], stride: 1 },
                stages: (0..3).map(shape).collect(),
                features: widths[3],
                classes,
                pixels: data.pixels,
            },
            stem: pointwise([3, widths[0]], 1, DEFAULT, vb.pp("conv1"), vb.pp("bn1"))?,
            stages,
            last: None,
            classifier: residual::classifier(widths[3], classes, vb.pp("linear"))?,
            grafts: Grafts::default(),
        }))
    }
}
