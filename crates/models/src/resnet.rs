//! The residual networks of the ImageNet experiments, with a stem for images of 32 × 32 pixels.

use crate::residual::{self, Block, FAN_OUT, Plan, Shortcut, conv_norm};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Build, BuildCx, Error, Result};

/// A stem of 3 × 3 without a pool, and four stages of basic blocks (18, 34) or bottlenecks (50, 101, 152).
///
/// # Source
/// He et al., 2015 (arXiv:1512.03385), table 1; the stem and the names of weights from `kuangliu/pytorch-cifar`, as in the
/// code of Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Resnet {
    /// Weighted layers: 18, 34, 50, 101 or 152.
    pub depth: usize,
    /// Channels of the stem; each stage's inner convolutions have 1, 2, 4 and 8 times as many.
    pub width: usize,
}

impl Default for Resnet {
    fn default() -> Self {
        Self { depth: 18, width: 64 }
    }
}

impl Build<dyn Backbone> for Resnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        const WHO: &str = "resnet";
        let (blocks, block, wider): (_, fn(_, _, _, &VarBuilder<'_>) -> _, _) = match self.depth {
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
        let plan = Plan {
            widths: &[&[self.width], &stages[..]].concat(),
            blocks: &blocks,
            draw: FAN_OUT,
            block,
            classifier: residual::classifier(features, classes, cx.vars.pp("linear"))?,
        };
        plan.build(cx, WHO)
    }
}

fn basic(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Block> {
    Block::new(&[[from, to, 3, stride], [to, to, 3, 1]], shortcut(from, to, stride, vb)?, FAN_OUT, vb)
}

fn bottleneck(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Block> {
    let inner = to / 4;
    let shapes = [[from, inner, 1, 1], [inner, inner, 3, stride], [inner, to, 1, 1]];
    Block::new(&shapes, shortcut(from, to, stride, vb)?, FAN_OUT, vb)
}

fn shortcut(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Shortcut> {
    if stride == 1 && from == to {
        return Ok(Shortcut::Identity);
    }
    let vb = vb.pp("shortcut");
    Ok(Shortcut::Project(conv_norm([from, to, 1, stride], FAN_OUT, vb.pp(0), vb.pp(1))?))
}
