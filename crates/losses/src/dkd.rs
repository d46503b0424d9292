//! Decoupled knowledge distillation (Zhao et al., 2022).

use crate::functional::{kl, log_softmax, log_sum_exp, soften};
use candle::{DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{DistillLoss, Error, Pair, Result, Step, Terms};

/// Knowledge distillation with its two parts weighed apart: how sure the teacher is of the label, and what it sees
/// among the other classes.
///
/// The authors' code hides the label behind a score of −1000 and takes the logarithm of a softmax: both give way on
/// extreme logits. Here the label is left out, and everything stays a logarithm.
///
/// # Formula
/// ```text
/// loss = α · T² · KL(b ‖ c) + β · T² · KL(p ‖ q)
///
/// b, c: [label, not the label], of softmax(teacher / T) and softmax(student / T)
/// p, q: the same two among the other classes alone, where they add up to 1
/// ```
///
/// # Source
/// Zhao et al., 2022 (arXiv:2203.08679), equation (7). T = 4, α = 1 and β = 8 are mdistiller's defaults for CIFAR-100;
/// it changes β from pair to pair, see the preset `dkd`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dkd {
    /// Weight of the label's part, TCKD.
    pub alpha: f64,
    /// Weight of the other classes' part, NCKD.
    pub beta: f64,
    /// What logits are divided by.
    pub temperature: f64,
}

impl Default for Dkd {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 8.0, temperature: 4.0 }
    }
}

impl DistillLoss for Dkd {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let teacher = Split::new(&pair.teacher("dkd")?.out.logits, &pair.labels, self.temperature)?;
        let student = Split::new(&pair.student.out.logits, &pair.labels, self.temperature)?;
        let dtype = pair.student.out.logits.dtype();
        let square = self.temperature.powi(2);
        Ok(Terms::default()
            .with("target", self.alpha, (kl(&teacher.target, &student.target)? * square)?.to_dtype(dtype)?)
            .with("others", self.beta, (kl(&teacher.others, &student.others)? * square)?.to_dtype(dtype)?))
    }
}

/// Log-probabilities of a softened prediction, taken apart at the label.
#[derive(Clone, Debug)]
pub struct Split {
    /// Of the label, and of not being it: `(batch, 2)`.
    pub target: Tensor,
    /// Of each other class, given that it is not the label: `(batch, classes − 1)`.
    pub others: Tensor,
}

impl Split {
    /// Takes a prediction apart.
    ///
    /// # Shapes
    /// `logits`: `(batch, classes ≥ 2)`; `labels`: `(batch,)`, `u32`.
    pub fn new(logits: &Tensor, labels: &Tensor, temperature: f64) -> Result<Self> {
        let (_, classes) = logits.dims2()?;
        if classes < 2 {
            return Err(Error::Shape {
                what: "logits taken apart at the label",
                expected: "(batch, classes ≥ 2)".into(),
                got: logits.dims().to_vec(),
            });
        }
        let log_p = soften(logits, temperature)?;
        let others = log_p.gather(&others(labels, classes)?, 1)?;
        let target = [log_p.gather(&labels.unsqueeze(1)?, 1)?, log_sum_exp(&others)?];
        Ok(Self { target: Tensor::cat(&target, 1)?, others: log_softmax(&others)? })
    }
}

/// Every class but the label: `(batch,)` → `(batch, classes − 1)`.
fn others(labels: &Tensor, classes: usize) -> Result<Tensor> {
    let shape = (labels.dim(0)?, classes - 1);
    let count = Tensor::arange(0, classes as u32 - 1, labels.device())?.broadcast_as(shape)?;
    let past = count.ge(&labels.unsqueeze(1)?.broadcast_as(shape)?)?.to_dtype(DType::U32)?;
    Ok((count + past)?)
}
