//! The comparisons.

use sokd_core::DistillLoss;

sokd_core::catalog! {
    /// A loss that a recipe may name.
    pub enum LossSpec: dyn DistillLoss = Plain(sokd_losses::LossSpec) | Prepared(sokd_baselines::LossSpec)
}

impl LossSpec {
    /// Where the loss wants to see the teacher, beside what every network shows.
    pub fn looks(&self) -> Option<sokd_core::Place> {
        match self {
            Self::Plain(_) => None,
            Self::Prepared(loss) => Some(loss.looks()),
        }
    }
}
