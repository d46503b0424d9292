//! Knowledge distillation (Hinton et al., 2015).

use crate::functional::softened_kl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// T² · KL(teacher ‖ student) between softened predictions.
///
/// # Formula
/// ```text
/// kd = T² Σ_c p_c (log p_c − log q_c)                 p = softmax(teacher / T), q = softmax(student / T)
/// ```
///
/// # Source
/// Hinton et al., 2015 (arXiv:1503.02531), section 2. T = 4 as in Tian et al., 2020 (arXiv:1910.10699) and
/// `CIFAR-100` in mdistiller; ImageNet recipes use 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kd {
    /// What logits are divided by, the T of the formula.
    pub temperature: f64,
}

impl Default for Kd {
    fn default() -> Self {
        Self { temperature: 4.0 }
    }
}

impl DistillLoss for Kd {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let (teacher, student) = (&pair.teacher("kd")?.out.logits, &pair.student.out.logits);
        Ok(Terms::one("kd", softened_kl(teacher, student, self.temperature)?))
    }
}
