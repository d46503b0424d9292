use crate::together::mean;
use crate::{Distiller, Hand, Interlude, Observer, StepReport, Tally, Toward, Update};
use sokd_core::{LENS, LearnSplit, Mode, Result, Step};
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
    /// How the student's normalisation layers run: a phase that moves others looks ([`Mode::Probe`]), or sees the student
    /// at rest ([`Mode::Eval`]); both steer.
    pub mode: Mode,
    /// Acts on one step in so many.
    pub every: u64,
    /// The epochs it acts in, from 0.
    pub epochs: Range<usize>,
    /// Acts in passes of its own before some epochs, and in no step of the student's.
    pub interlude: Option<Interlude>,
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
        self.interlude.is_none() && at.index.is_multiple_of(self.every) && self.epochs.contains(&at.epoch)
    }

    /// Moves its weights once; in an interlude, `here` says where that stands.
    pub(crate) fn act(
        &mut self,
        distiller: &Distiller,
        hand: &Hand<'_>,
        (at, here, lr): (Step, Option<Moment>, f64),
        tally: &mut Tally,
        watch: &mut [Box<dyn Observer>],
    ) -> Result<()> {
        let lens = |(name, _): &(String, _)| name.split('.').next() == Some(LENS);
        let key = at.key.fold_in(at.index).fold(&self.name);
        let at = Step {
            // Other images, other draws.
            key: if hand.world.leads() { key } else { key.fold("rank").fold_in(hand.world.rank() as u64) },
            steers: self.mode != Mode::Train,
            focuses: self.optimizer.vars().iter().any(lens),
            ..at
        };
        let (terms, mut grads) = self.update.grads(distiller, self, hand, &at)?;
        if at.epoch == self.epochs.start && !tally.knows(&self.name) {
            let unreached = self.optimizer.vars().iter().filter(|(_, var)| grads.get(var).is_none());
            let unreached: Vec<&str> = unreached.map(|(name, _)| name.as_str()).collect();
            if !unreached.is_empty() {
                watch.iter_mut().try_for_each(|observer| observer.unreached(&self.name, &unreached))?;
            }
        }
        let (own, vars) = (hand.of(self.split)?.images()?, self.optimizer.vars().iter().map(|(_, var)| var));
        let (images, terms) = mean(hand.world, own, (terms, &mut grads), vars)?;
        tally.add(&self.name, images, &terms)?;
        tally.guard(&self.name, &at)?;
        if let Some(max) = self.clip {
            // Each group by itself: one with steep gradients shall not hold up the others.
            for group in self.optimizer.groups() {
                clip_grad_norm(group, &mut grads, max)?;
            }
        }
        self.optimizer.step(&grads, lr)?;
        let report = StepReport { phase: &self.name, at: &at, interlude: here, terms: &terms, lr, images };
        watch.iter_mut().try_for_each(|observer| observer.step(&report))
    }
}

/// Runs every phase that is due.
///
/// # Errors
/// [`sokd_core::Error::Diverged`] when a term is not finite any more: the weights are then as they were before.
pub fn step(
    distiller: &Distiller,
    phases: &mut [Phase],
    hand: &Hand<'_>,
    (at, now): (Step, Moment),
    tally: &mut Tally,
    watch: &mut [Box<dyn Observer>],
) -> Result<()> {
    for phase in phases.iter_mut().filter(|phase| phase.due(&at)) {
        let lr = phase.lr.at(&now);
        phase.act(distiller, hand, (at, None, lr), tally, watch)?;
    }
    Ok(())
}
