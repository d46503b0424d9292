//! VGG with batch normalisation.

use crate::residual::rectified;
use candle::Tensor;
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{
    Backbone, BackboneInfo, Build, BuildCx, Error, Grafts, Head, Mode, Result, Stage, StageInfo,
};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, Linear, init};
use sokd_ops::{Conv, Pool, global_avg_pool, max_pool2d, normalize};

/// Five blocks of convolutions: the first is the stem, the others are stages, each behind a pool.
///
/// # Source
/// Simonyan and Zisserman, 2014 (arXiv:1409.1556), table 1, configurations A (11), B (13), D (16) and E (19) without
/// their three wide layers; the one of 8 layers, the names of weights and the initialisation from the code of
/// Tian et al., 2020 (arXiv:1910.10699).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Vgg {
    /// 8, 11, 13, 16 or 19.
    pub depth: usize,
}

impl Default for Vgg {
    fn default() -> Self {
        Self { depth: 8 }
    }
}

const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];

/// Convolutions of one block. The last shows its map before its ReLU.
type Block = Vec<ConvNorm>;

struct Net {
    info: BackboneInfo,
    stem: Block,
    /// Whether a pool comes first.
    stages: Vec<(bool, Block)>,
    classifier: Linear,
    grafts: Grafts,
}

impl Build<dyn Backbone> for Vgg {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let (vb, data) = (&cx.vars, cx.data("vgg")?);
        let convs = match self.depth {
            8 => [1, 1, 1, 1, 1],
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            19 => [2, 2, 4, 4, 4],
            other => return Err(Error::setting("depth", format!("{other} is none of 8, 11, 13, 16 and 19"))),
        };
        let (mut stages, mut shapes) = (Vec::new(), Vec::new());
        let mut stride = 1;
        for index in 1..5 {
            // The map of a small image has shrunk enough before the last block.
            let pools = index < 4 || data.size[0] >= 64;
            stride *= if pools { 2 } else { 1 };
            stages.push((pools, block(index, WIDTHS[index - 1], convs[index], vb)?));
            shapes.push(StageInfo { channels: WIDTHS[index], stride });
        }
        let classes = data.classes.len();
        Ok(Box::new(Net {
            info: BackboneInfo {
                stem: StageInfo { channels: WIDTHS[0], stride: 1 },
                stages: shapes,
                features: WIDTHS[4],
                classes,
                pixels: data.pixels,
            },
            stem: block(0, 3, convs[0], vb)?,
            stages,
            classifier: Linear::new(
                WIDTHS[4],
                classes,
                init::normal(0.01),
                Some(init::ZERO),
                vb.pp("classifier"),
            )?,
            grafts: Grafts::default(),
        }))
    }
}

/// Weights are numbered as if a ReLU without weights stood behind each normalisation.
fn block(index: usize, from: usize, convs: usize, vb: &VarBuilder<'_>) -> Result<Block> {
    let (to, vb) = (WIDTHS[index], vb.pp(format!("block{index}")));
    let conv = |at: usize| {
        let (from, draw) = (if at == 0 { from } else { to }, init::kaiming_normal_fan_out(3, to));
        let conv = Conv2d::new(from, to, 3, Conv::same(3, 1), draw, Some(init::ZERO), vb.pp(3 * at))?;
        Ok(ConvNorm::new(conv, BatchNorm::new(to, vb.pp(3 * at + 1))?))
    };
    (0..convs).map(conv).collect()
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
        let images = normalize(images, pixels.mean, pixels.std)?;
        self.stem.iter().try_fold(images, |x, conv| conv.forward(&x, None, true, mode))
    }

    fn stage(&self, index: usize, input: &Tensor, mode: Mode) -> Result<Stage> {
        let (pools, block) = &self.stages[index];
        let x = if *pools { max_pool2d(input, Pool::square(2, 2))? } else { input.clone() };
        let forward = |conv: &ConvNorm, x: &Tensor| conv.forward(x, None, true, mode);
        let last = |conv: &ConvNorm, x: &Tensor| rectified(conv, x, None, mode);
        self.grafts.stage((index, block), x, mode, forward, last)
    }

    fn head(&self, map: &Tensor, mode: Mode) -> Result<Head> {
        let (map, said) = self.grafts.pooled(map.clone(), mode)?;
        let pooled = global_avg_pool(&map)?;
        Ok(Head { logits: self.classifier.forward(&pooled)?, pooled, said })
    }
}
