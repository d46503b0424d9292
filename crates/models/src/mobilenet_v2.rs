//! MobileNetV2 with a stem for small images.

use crate::mobile::{Chain, Net, depthwise, pointwise};
use crate::residual::{self, FAN_OUT};
use candle::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, BackboneInfo, Build, BuildCx, Error, Grafts, Mode, Result, Stage, StageInfo};
use sokd_nn::{ConvNorm, Linear, init};

/// A stem that halves the map and seven groups of inverted residual blocks, shown as four stages: the groups 1 and 2, 3,
/// 4 and 5, 6 and 7. The last convolution belongs to the head.
///
/// # Source
/// Sandler et al., 2018 (arXiv:1801.04381), table 2; the second group's stride of 1, ReLU in place of ReLU6, no dropout,
/// the initialisation and the names of weights from the code of Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MobilenetV2 {
    /// How many times the published channels stem and blocks have, rounded down; the embedding has 1280.
    pub width: f64,
    /// How many times its input's channels a block has inside; in the first group, as many.
    pub expand: usize,
}

impl Default for MobilenetV2 {
    fn default() -> Self {
        Self { width: 0.5, expand: 6 }
    }
}

const STEM: usize = 32;
const FEATURES: usize = 1280;

/// Channels, blocks and the first block's stride.
const GROUPS: [(usize, usize, usize); 7] =
    [(16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)];

/// How many groups each stage has.
const STAGES: [usize; 4] = [2, 1, 2, 2];

/// `norm(conv(relu(norm(depthwise(relu(norm(conv x)))))))`, and `x` added where the shape stays.
struct Block {
    widen: ConvNorm,
    depthwise: ConvNorm,
    narrow: ConvNorm,
    residual: bool,
}

impl Block {
    fn new(from: usize, to: usize, stride: usize, expand: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let (inner, vb) = (from * expand, vb.pp("conv"));
        Ok(Self {
            widen: pointwise([from, inner], 1, FAN_OUT, vb.pp(0), vb.pp(1))?,
            depthwise: depthwise(inner, stride, FAN_OUT, vb.pp(3), vb.pp(4))?,
            narrow: pointwise([inner, to], 1, FAN_OUT, vb.pp(6), vb.pp(7))?,
            residual: stride == 1 && from == to,
        })
    }
}

impl Chain for Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let y = self.widen.forward(x, None, true, mode)?;
        let y = self.depthwise.forward(&y, None, true, mode)?;
        self.narrow.forward(&y, self.residual.then_some(x), false, mode)
    }

    /// Blocks end without a ReLU: the map is what it was before one.
    fn last(&self, x: &Tensor, mode: Mode) -> Result<Stage> {
        Ok(Stage::new(self.forward(x, mode)?, None))
    }
}

impl Build<dyn Backbone> for MobilenetV2 {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let (vb, data) = (&cx.vars, cx.data("mobilenet-v2")?);
        let scale = |channels: usize| (channels as f64 * self.width) as usize;
        if scale(GROUPS[0].0) == 0 || self.expand == 0 {
            let problem = format!("{self:?} leaves a layer without channels");
            return Err(Error::setting("mobilenet-v2", problem));
        }
        let stem = scale(STEM);
        let (mut from, mut stride, mut stages, mut shapes) = (stem, 2, Vec::new(), Vec::new());
        let mut groups = GROUPS.into_iter().enumerate();
        for count in STAGES {
            let mut stage = Vec::new();
            for (index, (channels, blocks, first)) in groups.by_ref().take(count) {
                let vb = vb.pp(format!("blocks.{index}"));
                let expand = if index == 0 { 1 } else { self.expand };
                for at in 0..blocks {
                    let (to, step) = (scale(channels), if at == 0 { first } else { 1 });
                    stage.push(Block::new(from, to, step, expand, &vb.pp(at))?);
                    from = to;
                }
                stride *= first;
            }
            stages.push(stage);
            shapes.push(StageInfo { channels: from, stride });
        }
        let (classes, tail) = (data.classes.len(), vb.pp("conv2"));
        let classifier = vb.pp("classifier.0");
        Ok(Box::new(Net {
            info: BackboneInfo {
                stem: StageInfo { channels: stem, stride: 2 },
                stages: shapes,
                features: FEATURES,
                classes,
                pixels: data.pixels,
            },
            stem: residual::conv_norm([3, stem, 3, 2], FAN_OUT, vb.pp("conv1.0"), vb.pp("conv1.1"))?,
            stages,
            last: Some(pointwise([from, FEATURES], 1, FAN_OUT, tail.pp(0), tail.pp(1))?),
            classifier: Linear::new(FEATURES, classes, init::normal(0.01), Some(init::ZERO), classifier)?,
            grafts: Grafts::default(),
        }))
    }
}
