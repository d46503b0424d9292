use super::slopes::Slopes;
use super::{Course, Update};
use crate::{Distiller, Hand, Phase};
use candle::backprop::GradStore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Result, Step, Terms};
use sokd_nn::Params;
use sokd_ops::{backward, total, with_leaves_apart};

/// Down the gradient of the phase's own objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Descend {}

impl Course for Descend {
    fn start(&self, _: &Params) -> Result<Box<dyn Update>> {
        Ok(Box::new(*self))
    }
}

impl Update for Descend {
    fn grads(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand<'_>,
        at: &Step,
    ) -> Result<(Terms, GradStore)> {
        let shown = hand.of(phase.split)?;
        let terms = with_leaves_apart(|| distiller.terms(shown, phase.mode, &phase.toward, at))?;
        let mut grads = match total(&terms)? {
            Some(total) => backward(|| Ok(total.backward()?))?,
            None => GradStore::default(),
        };
        if !terms.cuts().is_empty() {
            let (found, vars) = (grads, phase.optimizer.vars());
            grads = GradStore::default();
            Slopes::of(&terms, &found, vars).add_to(&mut grads, vars)?;
        }
        Ok((terms, grads))
    }

    fn repeats(&self) -> bool {
        true
    }
}
