//! The residual networks of the CIFAR-10 experiments as they were published: shortcuts without parameters.

use crate::residual::{Block, Draw, Plan, Shortcut, Stem, blocks};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Build, BuildCx, Error, Result};
use sokd_nn::{Linear, init};

/// A stem and three stages of basic blocks; where a stage changes the shape, the shortcut takes every other pixel and
/// pads its channels with zeros (option A).
///
/// # Source
/// He et al., 2015 (arXiv:1512.03385), section 4.2; the zeros on both sides, the initialisation and the names of weights
/// from `akamaster/pytorch_resnet_cifar10`, whose weights are the ones in circulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct OptionAResnet {
    /// Weighted layers: 6n + 2.
    pub depth: usize,
    /// Channels of the stem and of each stage: equal to those before, or twice as many.
    pub widths: [usize; 4],
}

impl Default for OptionAResnet {
    fn default() -> Self {
        Self { depth: 20, widths: [16, 16, 32, 64] }
    }
}

/// `kaiming_normal_` with PyTorch's default `fan_in`, for the classifier too.
const FAN_IN: Draw = |kernel, from, _| init::normal((2.0 / (kernel * kernel * from) as f64).sqrt());

impl Build<dyn Backbone> for OptionAResnet {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        const WHO: &str = "option-a-resnet";
        let (features, classes) = (self.widths[3], cx.data(WHO)?.classes.len());
        let bias = Some(init::kaiming_uniform(features));
        let plan = Plan {
            stem: Stem::Cifar,
            widths: &self.widths,
            blocks: &[blocks(self.depth, 2, 2)?; 3],
            draw: FAN_IN,
            block,
            classifier: Linear::new(
                features,
                classes,
                FAN_IN(1, features, classes),
                bias,
                cx.vars.pp("linear"),
            )?,
        };
        plan.build(cx, WHO)
    }
}

fn block(from: usize, to: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Block> {
    let shortcut = match (stride, to.checked_sub(from)) {
        (1, Some(0)) => Shortcut::Identity,
        (2, Some(more)) if more % 2 == 0 => Shortcut::Pad(more / 2),
        _ => return Err(Error::setting("widths", format!("{from} channels cannot be padded to {to}"))),
    };
    Block::new(&[[from, to, 3, stride], [to, to, 3, 1]], shortcut, FAN_IN, vb)
}
