//! What every student is asked for.

use crate::functional::label_cross_entropy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// −log of what the student gives the label.
///
/// # Formula
/// ```text
/// ce = −(1 − ε) log q_y − ε · mean_c log q_c          q = softmax(student), y the label, ε the smoothing
/// ```
///
/// # Source
/// Szegedy et al., 2016 (arXiv:1512.00567), section 7, for the smoothing; without it the logarithmic score itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CrossEntropy {
    /// How much of its certainty the label shares evenly among all classes. 0 in every published CIFAR recipe.
    pub smoothing: f64,
}

impl DistillLoss for CrossEntropy {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let student = &pair.student.out.logits;
        Ok(Terms::one("ce", label_cross_entropy(student, &pair.labels, self.smoothing)?))
    }
}
