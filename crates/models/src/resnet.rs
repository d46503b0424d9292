//! The residual networks of the ImageNet experiments, for images of 32 × 32 pixels and for those of ImageNet.

use crate::residual::{self, Block, FAN_OUT, Plan, Shortcut, Stem, conv_norm};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Build, BuildCx, Error, Result};

/// A stem and four stages of basic blocks (18, 34) or bottlenecks (50, 101, 152).
///
/// # Source
/// He et al., 2015 (arXiv:1512.03385), table 1, with the stride of a bottleneck on its 3 × 3 convolution. The stem for
/// small images and its networks' names of weights from `kuangliu/pytorch-cifar`, as in the code of Tian et al., 2020
/// (arXiv:1910.10699); those of the other from torchvision, whose checkpoints load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Resnet {
    /// Weighted layers: 18, 34, 50, 101 or 152.
    pub depth: usize,
    /// Channels of the stem; each stage's inner convolutions have 1, 2, 4 and 8 times as many.
    pub width: usize,
    /// What images meet first, and with it how the field names the weights.
    pub stem: Stem,
}

impl Default for Resnet {
    fn default() -> Self {
        Self { depth: 18, width: 64, stem: Stem::Cifar }
    }
}

impl Build<dyn Backbone> for Resnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        const WHO: &str = "resnet";
        let (blocks, shapes, wider): (_, Shapes, _) = match self.depth {
            18 => ([2, 2, 2, 2], basic, 1),
            34 => ([3, 4, 6, 3], basic, 1),
            50 => ([3, 4, 6, 3], bottleneck, 4),
            101 => ([3, 4, 23, 3], bottleneck, 4),
            152 => ([3, 8, 36, 3], bottleneck, 4),
            other => {
                return Err(Error::setting("depth", format!("{other} is none of 18, 34, 50, 101 and 152")));
            }
        };
        let stages = [1, 2, 4, 8].map(|times| times * wider * self.width);
        let (features, classes) = (stages[3], cx.data(WHO)?.classes.len());
        let (projection, head) = match self.stem {
            Stem::Cifar => ("shortcut", "linear"),
            Stem::Imagenet => ("downsample", "fc"),
        };
        let block = |from, to, stride, vb: &VarBuilder<'_>| {
            Block::new(&shapes(from, to, stride), shortcut([from, to], stride, projection, vb)?, FAN_OUT, vb)
        };
        let plan = Plan {
            stem: self.stem,
            widths: &[&[self.width], &stages[..]].concat(),
            blocks: &blocks,
            draw: FAN_OUT,
            block,
            classifier: residual::classifier(features, classes, cx.vars.pp(head))?,
        };
        plan.build(cx, WHO)
    }
}

/// The convolutions of a block, as [`conv_norm`] asks for them, of channels in, channels out and stride.
type Shapes = fn(usize, usize, usize) -> Vec<[usize; 4]>;

fn basic(from: usize, to: usize, stride: usize) -> Vec<[usize; 4]> {
    vec![[from, to, 3, stride], [to, to, 3, 1]]
}

fn bottleneck(from: usize, to: usize, stride: usize) -> Vec<[usize; 4]> {
    let inner = to / 4;
    vec![[from, inner, 1, 1], [inner, inner, 3, stride], [inner, to, 1, 1]]
}

fn shortcut([from, to]: [usize; 2], stride: usize, name: &str, vb: &VarBuilder<'_>) -> Result<Shortcut> {
    if stride == 1 && from == to {
        return Ok(Shortcut::Identity);
    }
    let vb = vb.pp(name);
    Ok(Shortcut::Project(conv_norm([from, to, 1, stride], FAN_OUT, vb.pp(0), vb.pp(1))?))
}
