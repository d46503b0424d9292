//! What every student is asked for.

use crate::functional::{cross_entropy, soften};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// −log of what the student gives the label.
///
/// # Formula
/// ```text
/// loss = −(1 − ε) · log q[label] − ε / K · Σ over K classes log q[k],  q = softmax(student)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CrossEntropy {
    /// How much of its certainty the label shares evenly among all classes. 0 in every published CIFAR recipe.
    pub smoothing: f64,
}

impl DistillLoss for CrossEntropy {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let student = &pair.student.out.logits;
        let value = cross_entropy(&soften(student, 1.0)?, &pair.labels, self.smoothing)?;
        Ok(Terms::one("ce", value.to_dtype(student.dtype())?))
    }
}
