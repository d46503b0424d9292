//! What images are searched by that a student should not know yet.

use crate::functional::soften;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Pair, Result, Step, Terms};

/// −log(1 − p + 1e-8) of what the student gives the label: small where it does not know it. For phases that move images,
/// not the student.
///
/// # Formula
/// ```text
/// loss = −log(1 − p + 1e-8),  p = softmax(student)[label]
/// ```
///
/// # Source
/// The student's part of TST's search (Shao et al., 2023, arXiv:2212.05422) in its released code; an unlikelihood (Welleck
/// et al., 2020, arXiv:1908.04319).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Unlikelihood {
    /// How it is said that the student should not know.
    pub form: Form,
}

/// How it is said that a student should not know the label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// −log(1 − p + 1e-8): nothing is won by an image that is unknown already. As released.
    #[default]
    Bounded,
    /// Minus the cross-entropy, log p, without a bound below: as the paper is reported to say.
    NegCe,
}

/// What keeps the logarithm finite.
const LEAST: f64 = 1e-8;

impl DistillLoss for Unlikelihood {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let student = &pair.student.out.logits;
        let own = soften(student, 1.0)?.gather(&pair.labels.unsqueeze(1)?, 1)?.squeeze(1)?;
        let value = match self.form {
            Form::Bounded => own.exp()?.affine(-1.0, 1.0 + LEAST)?.log()?.neg()?,
            Form::NegCe => own,
        };
        Ok(Terms::one("unlikelihood", value.to_dtype(student.dtype())?))
    }
}
