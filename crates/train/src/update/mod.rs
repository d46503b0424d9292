//! How a phase turns its objective into a direction for its weights.

mod descend;
mod slopes;
mod unroll;

use crate::{Distiller, Hand, Phase};
use candle::backprop::GradStore;
pub use descend::Descend;
use sokd_core::{Result, Step, Terms};
use sokd_nn::Params;
pub use unroll::{Through, Unroll};

/// How a phase turns its objective into a direction for its weights.
pub trait Update: Send {
    /// The terms as they stand, and a gradient for each weight that should move.
    fn grads(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand<'_>,
        at: &Step,
    ) -> Result<(Terms, GradStore)>;

    /// Whether a device could find the next gradients as it found the last: none waits for a number of it.
    fn repeats(&self) -> bool {
        false
    }

    /// Whether it asks the whole objective beside what its phase goes toward.
    fn asks_all(&self) -> bool {
        false
    }
}

/// An update before it knows the weights of the run.
pub trait Course {
    /// The update over these weights.
    ///
    /// # Errors
    /// [`sokd_core::Error::Setting`] when it does not fit them.
    fn start(&self, params: &Params) -> Result<Box<dyn Update>>;
}

sokd_core::catalog! {
    /// An update that a recipe may name.
    pub enum UpdateSpec: AsRef<dyn Course> {
        Descend(Descend),
        Unroll(Unroll),
    }
}

impl Default for UpdateSpec {
    fn default() -> Self {
        Self::Descend(Descend {})
    }
}
