//! TST, "teaching what you should teach": images are changed so that the teacher still knows them and the student does
//! not, and the student learns from them beside the unchanged ones.

/// Encoders of places.
pub mod affine;
/// Encoders of colours.
pub mod color;
/// Encoders of all operations, and their files.
pub mod encoders;
pub mod exact;
mod module;
mod operation;
mod policy;
mod pretrain;
/// Bits with a slope.
pub mod relaxed;

pub use module::Module;
pub use operation::{Kind, LEVELS, Operation};
pub use pretrain::{Learned, Pretraining};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, Error, Lens, Result};

/// TST: a learned list of how strongly, and how probably, images are changed.
///
/// In steps of the student's it shows every batch twice: changed, then as it was, both with their labels and rows; every
/// term is then the mean over both halves. In a phase that focuses it shows the changed images alone, and gradients pass
/// through small networks that imitate the operations to the 25 numbers that it learns, `augment.tst.*`.
///
/// # Formula
/// ```text
/// x′ = x + Σⱼ bⱼ (oⱼ(x; m_j) − x)                      j: the operations drawn for the batch; m_j, p_j learned
/// bⱼ ~ RelaxedBernoulli(p_j)
/// ```
///
/// # Source
/// Shao et al., 2023 (arXiv:2212.05422), as their released code for classification has it; the book's page on TST says
/// where that is ambiguous.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Tst {
    /// Whose strengths and probabilities.
    pub policy: Policy,
    /// What may happen to an image.
    pub operations: Vec<Operation>,
    /// Operations drawn for a batch, without repetition: 4, `solve_number` in the released code.
    pub drawn: usize,
    /// How drawn operations come together.
    pub combine: Combine,
    /// What the learned probabilities mean.
    pub probability: Probability,
    /// Of the relaxed bits: 0.05 in the released code.
    pub temperature: f64,
    /// The deviation of what is added to what encoders read: 0.01 in the released code.
    pub noise: f64,
    /// The logit with which an encoder acts on an image.
    pub gate: Gate,
    /// The side of what is cut out, in pixels: 32 in the released code for CIFAR, which leaves at most three quarters of an
    /// image, and 224 for ImageNet. 16 is usual elsewhere.
    pub cutout: usize,
    /// The first epoch, from 0, in which the student sees changed images: 0, before any search, in the released code.
    pub since: usize,
    /// Small networks that imitate the operations: `cifar100`, trained here, or a file that `sokd tst pretrain-encoders`
    /// or `sokd tst convert-encoders` wrote.
    pub encoders: String,
}

/// Whose strengths and probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Those that a phase learns.
    #[default]
    Learned,
    /// Drawn anew for every batch, even between 0 and 1. A control, ours.
    Random,
    /// Those that a learned policy begins with: all in the middle. A control, ours.
    Zero,
}

/// How drawn operations come together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Side by side: what each changes in the image is added up, without limits. As released.
    #[default]
    Additive,
    /// One after the other, in the order of the draw. Ours.
    Sequential,
}

/// What the learned probabilities mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Probability {
    /// The squashed number is taken for a logit once more: an operation that was drawn acts with a probability of σ(σ(θ)),
    /// between 0.5 and 0.731. As released.
    #[default]
    Released,
    /// σ(θ), as it is documented.
    Intent,
}

/// The logit with which an encoder acts on an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", expecting = "it is a number, a logit, or `own`: that of each encoder")]
pub enum Gate {
    /// That of each encoder, as its file has it. Released files have some, learned by code that is not public.
    Own,
    /// The same for all. 4, a probability of 0.982: ours, in the range of the released encoders (0.965 to 0.997).
    #[serde(untagged)]
    Logit(f64),
}

impl Default for Tst {
    fn default() -> Self {
        Self {
            policy: Policy::Learned,
            operations: Operation::ALL.to_vec(),
            drawn: 4,
            combine: Combine::Additive,
            probability: Probability::Released,
            temperature: 0.05,
            noise: 0.01,
            gate: Gate::Logit(4.0),
            cutout: 32,
            since: 0,
            encoders: "cifar100".into(),
        }
    }
}

impl Tst {
    /// The lens with its policy, under `augment.tst`.
    ///
    /// # Errors
    /// [`Error::Setting`] when a setting cannot work; [`Error::Missing`] where there are no such encoders.
    pub fn module(&self, cx: &BuildCx<'_>) -> Result<Module> {
        let fault = |name: &str, problem: String| Err(Error::setting(format!("tst.{name}"), problem));
        let mut operations = self.operations.clone();
        operations.sort_unstable();
        operations.dedup();
        if operations.len() != self.operations.len() {
            return fault("operations", "one of them stands twice in the list".into());
        }
        if self.drawn > operations.len() {
            let problem = format!("{} cannot be drawn of {}", self.drawn, operations.len());
            return fault("drawn", problem);
        }
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            return fault("temperature", format!("{} is not above 0", self.temperature));
        }
        Module::new(Self { operations, ..self.clone() }, cx)
    }
}

impl Build<dyn Lens> for Tst {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Lens>> {
        Ok(Box::new(self.module(cx)?))
    }
}
