use crate::{Distiller, Hand, Phase};
use candle::backprop::GradStore;
use sokd_core::{Result, Step, Terms};

/// How a phase turns its objective into a direction for its weights.
pub trait Update: Send {
    /// The terms as they stand, and a gradient for each weight that should move.
    fn grads(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand,
        at: &Step,
    ) -> Result<(Terms, GradStore)>;
}

/// Down the gradient of the phase's own objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descend;

impl Update for Descend {
    fn grads(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand,
        at: &Step,
    ) -> Result<(Terms, GradStore)> {
        let terms = distiller.terms(hand.of(phase.split)?, phase.mode, &phase.toward, at)?;
        let grads = match terms.total()? {
            Some(total) => total.backward()?,
            None => GradStore::default(),
        };
        Ok((terms, grads))
    }
}
