//! Knowledge review (Chen et al., 2021).

use crate::functional::hierarchical_mse;
use candle::Tensor;
use candle_nn::{Init, VarBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, DistillLoss, Error, Forward, Mode, Pair, Result, Side, Step, Terms};
use sokd_nn::{BatchNorm, Conv2d, ConvNorm, init};
use sokd_ops::{Conv, upsample_nearest2d};

/// How far each level of the teacher is from what the student's levels say together, from that level to the last, at
/// several sizes; summed over the levels.
///
/// A level is a stage's map, and after the last stage the embedding as a map of one pixel. From the last level on,
/// the student's maps are fused, each with what the levels behind it gave. The teacher's maps are those before a
/// stage's last ReLU.
///
/// # Formula
/// ```text
/// loss = Σ over levels l, h(f(l), teacher map l)
///
/// f(l) = fusion(student map l, f(l + 1))
/// h(a, b) = Σ over sizes w · mean (a − b)²: as they are, 4 × 4, 2 × 2, 1 × 1; w as 8 : 4 : 2 : 1, adding up to 1
/// ```
///
/// # Source
/// Chen et al., 2021 (arXiv:2104.09044), with the defaults of mdistiller: a width of 512 at most, the student's
/// maps behind their ReLU. Sizes and channels, which the released code lists for a few pairs, are those of the maps.
/// Ours: where one network has more stages they pair up from the first, as in [`At`](crate::attention::At), and the
/// two embeddings pair up in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ReviewKd {
    /// Channels of fused maps: as many as the student's embedding has, and no more than this.
    pub most_channels: usize,
    /// Whether the student's maps, too, are those before a stage's last ReLU.
    pub student_preact: bool,
}

impl Default for ReviewKd {
    fn default() -> Self {
        Self { most_channels: 512, student_preact: false }
    }
}

/// A [`ReviewKd`] with its fusions.
struct Review {
    student_preact: bool,
    /// One a level, the embedding's last.
    fusions: Vec<Fusion>,
}

impl Build<dyn DistillLoss> for ReviewKd {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        let (student, teacher) = (cx.student("review-kd")?, cx.teacher("review-kd")?);
        let middle = student.features.min(self.most_channels);
        if middle == 0 {
            return Err(Error::setting("review-kd.most-channels", "fused maps have at least one channel"));
        }
        let stages = student.stages.iter().zip(&teacher.stages);
        let mut ends: Vec<_> =
            stages.map(|(student, teacher)| (student.channels, teacher.channels)).collect();
        let last = ends.len();
        ends.push((student.features, teacher.features));
        let fusion = |(level, (from, to)): (usize, (usize, usize))| {
            let vars = cx.vars.pp(format!("adapter.review-kd.{level}"));
            Fusion::new([from, middle, to], level < last, &vars)
        };
        let fusions = ends.into_iter().enumerate().map(fusion).collect::<Result<_>>()?;
        Ok(Box::new(Review { student_preact: self.student_preact, fusions }))
    }
}

impl DistillLoss for Review {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let (student, teacher) = (&pair.student, pair.teacher("review-kd")?);
        let (mut behind, mut sum): (Option<Tensor>, Option<Tensor>) = (None, None);
        for (level, fusion) in self.fusions.iter().enumerate().rev() {
            let ours = self.level(level, student, self.student_preact)?;
            let theirs = self.level(level, teacher, true)?;
            let (_, height, width, _) = theirs.dims4()?;
            let (said, fused) = fusion.forward(&ours, behind.as_ref(), [height, width], student.mode)?;
            let value = hierarchical_mse(&said, &theirs)?;
            sum = Some(match sum {
                None => value,
                Some(sum) => (sum + value)?,
            });
            behind = Some(fused);
        }
        Ok(Terms::one("review-kd", sum.ok_or(Error::NoStage { stage: 0, stages: 0 })?))
    }
}

impl Review {
    /// A level of a network, `(batch, height, width, channels)`.
    fn level(&self, level: usize, side: &Side<'_>, preact: bool) -> Result<Tensor> {
        let Forward { pooled, .. } = &side.out;
        if level + 1 == self.fusions.len() {
            return Ok(pooled.unsqueeze(1)?.unsqueeze(1)?);
        }
        if preact { side.preact(level) } else { Ok(side.out.stage(level)?.map.clone()) }
    }
}

/// What mixes a level's map with what the levels behind it gave, place by place, and brings it to the teacher's shape.
///
/// # Source
/// `ABF`, the attention based fusion of Chen et al., 2021 (arXiv:2104.09044), as mdistiller draws and runs it.
struct Fusion {
    narrow: ConvNorm,
    /// How much of either goes into the mixture; the last level has none behind it.
    attention: Option<Conv2d>,
    widen: ConvNorm,
}

impl Fusion {
    fn new([from, middle, to]: [usize; 3], fuses: bool, vars: &VarBuilder<'_>) -> Result<Self> {
        let layer = |from: usize, to: usize, kernel: usize, name: &str| -> Result<ConvNorm> {
            let vars = vars.pp(name);
            // PyTorch's kaiming_uniform_ with a = 1.
            let bound = (3.0 / (kernel * kernel * from) as f64).sqrt();
            let draw = Init::Uniform { lo: -bound, up: bound };
            let conv = Conv2d::new(from, to, kernel, Conv::same(kernel, 1), draw, None, vars.pp(0))?;
            Ok(ConvNorm::new(conv, BatchNorm::new(to, vars.pp(1))?))
        };
        let attention = || {
            let draw = init::kaiming_uniform(2 * middle);
            Conv2d::new(2 * middle, 2, 1, Conv::default(), draw, Some(draw), vars.pp("att_conv.0"))
        };
        Ok(Self {
            narrow: layer(from, middle, 1, "conv1")?,
            attention: fuses.then(attention).transpose()?,
            widen: layer(middle, to, 3, "conv2")?,
        })
    }

    /// What to compare with the teacher's map of that size, and what to hand to the level before.
    fn forward(
        &self,
        map: &Tensor,
        behind: Option<&Tensor>,
        size: [usize; 2],
        mode: Mode,
    ) -> Result<(Tensor, Tensor)> {
        let mut map = self.narrow.forward(map, None, false, mode)?;
        if let (Some(attention), Some(behind)) = (&self.attention, behind) {
            let (_, height, width, _) = map.dims4()?;
            let behind = resize(behind, [height, width])?;
            let both = Tensor::cat(&[&map, &behind], 3)?.contiguous()?;
            // The logistic function, which overflows nowhere in this form.
            let shares = (((attention.forward(&both)? * 0.5)?.tanh()? + 1.0)? * 0.5)?;
            let part = |map: &Tensor, of: usize| map.broadcast_mul(&shares.narrow(3, of, 1)?);
            map = (part(&map, 0)? + part(&behind, 1)?)?;
        }
        let map = resize(&map, size)?;
        Ok((self.widen.forward(&map, None, false, mode)?, map))
    }
}

/// The nearest pixels of a map, where its size is another.
fn resize(map: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    if map.dims()[1..3] == size { Ok(map.clone()) } else { upsample_nearest2d(map, size) }
}
