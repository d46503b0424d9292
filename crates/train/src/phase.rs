use crate::{Distiller, Hand, Observer, StepReport, Tally, Toward, Update};
use sokd_core::{LearnSplit, Mode, Result, Step};
use sokd_nn::{LrSchedule, Moment, Optimizer, clip_grad_norm};
use std::ops::Range;

/// One kind of update: which weights move, toward what, on which images, how often.
pub struct Phase {
    /// How logs call it; its randomness is its own.
    pub name: String,
    /// Weights for some terms in place of the objective's own.
    pub toward: Toward,
    /// Which images it sees.
    pub split: LearnSplit,
    /// How the student's normalisation layers run: a phase that moves others only looks ([`Mode::Probe`]).
    pub mode: Mode,
    /// Acts on one step in so many.
    pub every: u64,
    /// The epochs it acts in, from 0.
    pub epochs: Range<usize>,
    /// How its objective becomes a direction.
    pub update: Box<dyn Update>,
    /// The largest norm of the gradient over all weights that move, or over each group of the optimiser's.
    pub clip: Option<f64>,
    /// What moves, and how far along the direction.
    pub optimizer: Box<dyn Optimizer>,
    /// The learning rate.
    pub lr: LrSchedule,
}

impl Phase {
    /// Whether it acts in a step.
    pub fn due(&self, at: &Step) -> bool {
        at.index.is_multiple_of(self.every) && self.epochs.contains(&at.epoch)
    }
}

/// Runs every phase that is due.
///
/// # Errors
/// [`sokd_core::Error::Diverged`] when a term is not finite any more: the weights are then as they were before.
pub fn step(
    distiller: &Distiller,
    phases: &mut [Phase],
    hand: &Hand,
    (at, now): (Step, Moment),
    tally: &mut Tally,
    watch: &mut [Box<dyn Observer>],
) -> Result<()> {
    for phase in phases.iter_mut().filter(|phase| phase.due(&at)) {
        let steers = phase.mode == Mode::Probe;
        let at = Step { key: at.key.fold_in(at.index).fold(&phase.name), steers, ..at };
        let (terms, mut grads) = phase.update.grads(distiller, phase, hand, &at)?;
        let images = hand.of(phase.split)?.batch.labels.dim(0)?;
        tally.add(&phase.name, images, &terms)?;
        tally.guard(&phase.name, &at)?;
        if let Some(max) = phase.clip {
            // Each group by itself: one with steep gradients shall not hold up the others.
            for group in phase.optimizer.groups() {
                clip_grad_norm(group, &mut grads, max)?;
            }
        }
        let lr = phase.lr.at(&now);
        phase.optimizer.step(&grads, lr)?;
        for observer in watch.iter_mut() {
            observer.step(&StepReport { phase: &phase.name, at: &at, terms: &terms, lr, images })?;
        }
    }
    Ok(())
}
