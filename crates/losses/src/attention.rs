//! Attention transfer (Zagoruyko and Komodakis, 2017).

use crate::functional::{attention_map, mse};
use candle::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Error, Pair, Result, Step, Terms};
use sokd_ops as ops;

/// How differently the two networks spread their activity over the image, summed over all stages. Where two maps
/// differ in size the larger is pooled first.
///
/// # Formula
/// ```text
/// loss = Σ over stages, mean (a(student map) − a(teacher map))²
///
/// a(F) = u / ‖u‖,  u = mean over channels of F^power
/// ```
///
/// # Source
/// Zagoruyko and Komodakis, 2017 (arXiv:1612.03928), equation (2), in the form that RepDistiller and mdistiller run: the mean
/// of squared differences rather than their norm, p = 2, every stage but the stem.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct At {
    /// The power of the activations, the paper's p.
    pub power: u32,
}

impl Default for At {
    fn default() -> Self {
        Self { power: 2 }
    }
}

impl DistillLoss for At {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let (student, teacher) = (&pair.student.out.stages, &pair.teacher("at")?.out.stages);
        let mut sum: Option<Tensor> = None;
        // As the peers do, stages pair up from the first, and a longer network's last ones have no partner.
        for (student, teacher) in student.iter().zip(teacher) {
            let value = self.compare(&student.map, &teacher.map)?;
            sum = Some(match sum {
                None => value,
                Some(sum) => (sum + value)?,
            });
        }
        Ok(Terms::one("at", sum.ok_or(Error::NoStage { stage: 0, stages: 0 })?))
    }
}

impl At {
    /// One stage: `(batch, height, width, channels)`, two of them that share only the batch → `(batch,)`.
    fn compare(self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let ((_, height, width, _), (_, rows, columns, _)) = (student.dims4()?, teacher.dims4()?);
        let size = [height.min(rows), width.min(columns)];
        let attention = |map: &Tensor| {
            let fits = map.dims()[1..3] == size;
            let map = if fits { map.clone() } else { ops::adaptive_avg_pool2d(map, size)? };
            attention_map(&map, self.power)
        };
        mse(&attention(student)?, &attention(teacher)?)
    }
}
