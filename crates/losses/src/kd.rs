//! Knowledge distillation (Hinton et al., 2015).

use crate::functional::{kl, soften};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// T² · KL(teacher ‖ student) between softened predictions.
///
/// # Formula
/// ```text
/// loss = T² · KL(p ‖ q),  p = softmax(teacher / T),  q = softmax(student / T)
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
        let teacher = soften(&pair.teacher("kd")?.out.logits, self.temperature)?;
        let student = soften(&pair.student.out.logits, self.temperature)?;
        let value = (kl(&teacher, &student)? * self.temperature.powi(2))?;
        Ok(Terms::one("kd", value.to_dtype(pair.student.out.logits.dtype())?))
    }
}
