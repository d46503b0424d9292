//! What images are searched by that a teacher should still know.

use crate::functional::label_cross_entropy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// −log of what the teacher gives the label. It moves nothing of the student: for phases that move images.
///
/// # Formula
/// ```text
/// ce = −log p_y                                       p = softmax(teacher), y the label
/// ```
///
/// # Source
/// The teacher's part of TST's search (Shao et al., 2023, arXiv:2212.05422).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherCrossEntropy {}

impl DistillLoss for TeacherCrossEntropy {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let teacher = &pair.teacher("teacher-cross-entropy")?.out.logits;
        Ok(Terms::one("ce", label_cross_entropy(teacher, &pair.labels, 0.0)?))
    }
}
