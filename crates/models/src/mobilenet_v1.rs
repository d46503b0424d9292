//! `MobileNetV1`, for the images of ImageNet.

use crate::mobile::{Chain, DEFAULT, Net, depthwise, pointwise};
use crate::residual::{classifier, conv_norm, rectified};
use candle::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, BackboneInfo, Build, BuildCx, Error, Grafts, Mode, Result, Stage, StageInfo};
use sokd_nn::ConvNorm;

/// A stem that halves the map and thirteen pairs of a depthwise convolution and one of single pixels, shown as four
/// stages: the pairs 1 to 3, 4 and 5, 6 to 11, 12 and 13.
///
/// # Source
/// Howard et al., 2017 (arXiv:1704.04861), table 1; the stages that are shown, PyTorch's initialisation and the names of
/// weights from mdistiller (Zhao et al., 2022, arXiv:2203.08679).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct MobilenetV1 {
    /// How many times the published channels every layer has, rounded down: the paper's α.
    pub width: f64,
}

impl Default for MobilenetV1 {
    fn default() -> Self {
        Self { width: 1.0 }
    }
}

const STEM: usize = 32;

/// Channels and stride of each pair, stage by stage.
const STAGES: [&[(usize, usize)]; 4] = [
    &[(64, 1), (128, 2), (128, 1)],
    &[(256, 2), (256, 1)],
    &[(512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)],
    &[(1024, 2), (1024, 1)],
];

/// `norm(conv(relu(norm(depthwise x))))`, and a ReLU where the caller wants it.
struct Pair {
    depthwise: ConvNorm,
    pointwise: ConvNorm,
}

impl Pair {
    fn new(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            depthwise: depthwise(from, stride, DEFAULT, vb.pp(0), vb.pp(1))?,
            pointwise: pointwise([from, to], 1, DEFAULT, vb.pp(3), vb.pp(4))?,
        })
    }
}

impl Chain for Pair {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.pointwise.forward(&self.depthwise.forward(x, None, true, mode)?, None, true, mode)
    }

    fn last(&self, x: &Tensor, mode: Mode) -> Result<Stage> {
        rectified(&self.pointwise, &self.depthwise.forward(x, None, true, mode)?, None, mode)
    }
}

impl Build<dyn Backbone> for MobilenetV1 {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let (vb, data) = (cx.vars.pp("model"), cx.data("mobilenet-v1")?);
        let scale = |channels: usize| (channels as f64 * self.width) as usize;
        let stem = scale(STEM);
        if stem == 0 {
            let problem = format!("{} leaves the stem without channels", self.width);
            return Err(Error::setting("width", problem));
        }
        let (mut from, mut stride, mut stages, mut shapes) = (stem, 2, Vec::new(), Vec::new());
        let mut places = 1..;
        for pairs in STAGES {
            let mut stage = Vec::new();
            for (&(channels, step), place) in pairs.iter().zip(places.by_ref()) {
                let to = scale(channels);
                stage.push(Pair::new(from, to, step, &vb.pp(place))?);
                (from, stride) = (to, stride * step);
            }
            stages.push(stage);
            shapes.push(StageInfo { channels: from, stride });
        }
        let first = vb.pp(0);
        Ok(Box::new(Net {
            info: BackboneInfo {
                stem: StageInfo { channels: stem, stride: 2 },
                stages: shapes,
                features: from,
                classes: data.classes.len(),
                pixels: data.pixels,
            },
            stem: conv_norm([3, stem, 3, 2], DEFAULT, first.pp(0), first.pp(1))?,
            stages,
            last: None,
            classifier: classifier(from, data.classes.len(), cx.vars.pp("fc"))?,
            grafts: Grafts::default(),
        }))
    }
}
