//! The thin residual networks of the CIFAR experiments, as the field's distillation papers run them: projections
//! (option B) wherever the shape changes.

use crate::residual::{self, Block, FAN_OUT, Plan, Shortcut, Stem, blocks, conv_norm};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Build, BuildCx, Result};

/// A stem and three stages of basic blocks.
///
/// # Source
/// He et al., 2015 (arXiv:1512.03385), section 4.2; the wide ones (8×4, 32×4) and all names of weights from the code
/// of Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct CifarResnet {
    /// Weighted layers: 6n + 2.
    pub depth: usize,
    /// Channels of the stem and of each stage.
    pub widths: [usize; 4],
}

impl Default for CifarResnet {
    fn default() -> Self {
        Self { depth: 20, widths: [16, 16, 32, 64] }
    }
}

impl Build<dyn Backbone> for CifarResnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        const WHO: &str = "cifar-resnet";
        let classes = cx.data(WHO)?.classes.len();
        let plan = Plan {
            stem: Stem::Cifar,
            widths: &self.widths,
            blocks: &[blocks(self.depth, 2, 2)?; 3],
            draw: FAN_OUT,
            block,
            classifier: residual::classifier(self.widths[3], classes, cx.vars.pp("fc"))?,
        };
        plan.build(cx, WHO)
    }
}

fn block(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Block> {
    let shortcut = if stride == 1 && from == to {
        Shortcut::Identity
    } else {
        let vb = vb.pp("downsample");
        Shortcut::Project(conv_norm([from, to, 1, stride], FAN_OUT, vb.pp(0), vb.pp(1))?)
    };
    Block::new(&[[from, to, 3, stride], [to, to, 3, 1]], shortcut, FAN_OUT, vb)
}
