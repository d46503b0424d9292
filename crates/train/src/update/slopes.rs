//! What a pass says about the weights of a phase.

use candle::{Tensor, Var, backprop::GradStore};
use sokd_core::{Cut, Result, Terms};
use sokd_ops::backward;

type Named = [(String, Var)];

/// Gradients of a pass: at the weights of a phase, and at the places where the pass's graph was cut in front of them.
///
/// What they say is linear, so passes over the same images are added up before the way across the cuts is gone.
pub(super) struct Slopes {
    weights: Vec<Option<Tensor>>,
    at_cuts: Vec<Option<Tensor>>,
    cuts: Vec<Cut>,
}

impl Slopes {
    pub(super) fn of(terms: &Terms, grads: &GradStore, vars: &Named) -> Self {
        let found = |var: &Var| grads.get(var).map(Tensor::detach);
        Self {
            weights: vars.iter().map(|(_, var)| found(var)).collect(),
            at_cuts: terms.cuts().iter().map(|cut| found(&cut.leaf)).collect(),
            cuts: terms.cuts().to_vec(),
        }
    }

    /// These and the other's, of a pass over the same images with the same draws.
    pub(super) fn plus(self, other: &Self) -> Result<Self> {
        self.with(other, |own, other| match (own, other) {
            (Some(own), Some(other)) => Ok(Some((own + other)?)),
            (own, other) => Ok(own.or(other).cloned()),
        })
    }

    /// `scale`, `()`, times what these are above the other's.
    pub(super) fn above(self, other: &Self, scale: &Tensor) -> Result<Self> {
        self.with(other, |own, other| {
            own.zip(other).map(|(own, other)| Ok((own - other)?.broadcast_mul(scale)?)).transpose()
        })
    }

    fn with(
        self,
        other: &Self,
        each: impl Fn(Option<&Tensor>, Option<&Tensor>) -> Result<Option<Tensor>>,
    ) -> Result<Self> {
        let all = |own: &[Option<Tensor>], other: &[Option<Tensor>]| -> Result<Vec<_>> {
            own.iter().zip(other).map(|(own, other)| each(own.as_ref(), other.as_ref())).collect()
        };
        Ok(Self {
            weights: all(&self.weights, &other.weights)?,
            at_cuts: all(&self.at_cuts, &other.at_cuts)?,
            cuts: self.cuts,
        })
    }

    /// Adds them to the weights' gradients, across the cuts.
    pub(super) fn add_to(self, grads: &mut GradStore, vars: &Named) -> Result<()> {
        for ((_, var), own) in vars.iter().zip(self.weights) {
            add(grads, var, own)?;
        }
        add_all(grads, &backward(|| Cut::across(&self.cuts, &self.at_cuts))?, vars)
    }
}

/// Adds what another pass found to the weights' gradients.
pub(super) fn add_all(grads: &mut GradStore, more: &GradStore, vars: &Named) -> Result<()> {
    vars.iter().try_for_each(|(_, var)| add(grads, var, more.get(var).cloned()))
}

fn add(grads: &mut GradStore, var: &Var, more: Option<Tensor>) -> Result<()> {
    if let Some(more) = more {
        let sum = match grads.get(var) {
            Some(own) => (own + more)?,
            None => more,
        };
        grads.insert(var, sum);
    }
    Ok(())
}
