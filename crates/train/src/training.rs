use crate::distiller::{no_search, speaks};
use crate::{
    Checkpoint, Distiller, EpochReport, Evaluation, Exam, Phase, PhaseReport, Progress, Stop, Tensors,
};
use sokd_core::{Batches, Error, Key, LearnSplit, Result, Split, Step};
use sokd_nn::{Ema, Moment, Params};
use sokd_world::World;
use std::collections::BTreeMap;

/// A run: who learns from whom, by what steps, on which images, judged how.
pub struct Training<'a> {
    /// Student, teacher, objective.
    pub distiller: Distiller,
    /// What a step does, in order.
    pub phases: Vec<Phase>,
    /// All weights that training may change. The teacher's live elsewhere.
    pub params: Params,
    /// A moving average of the student, taken after every step.
    pub ema: Option<Ema>,
    /// What students learn from: its epochs are the run's.
    pub train: &'a dyn Batches,
    /// Held out of training, for phases that learn from it.
    pub search: Option<&'a dyn Batches>,
    /// How the student is judged after an epoch.
    pub exams: Vec<Exam<'a>>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Ends the run after so many steps, in the middle of an epoch perhaps.
    pub steps: Option<u64>,
    /// The root of its randomness.
    pub key: Key,
    /// Who trains with this process: [`sokd_world::ALONE`], or several that call [`crate::fit`] alike, each on its share of
    /// the same batches.
    pub world: &'a World,
}

impl<'a> Training<'a> {
    /// What types alone cannot say.
    ///
    /// # Errors
    /// [`Error::Setting`] with the first fault.
    pub fn check(&self) -> Result<()> {
        if self.train.steps() == 0 {
            return Err(Error::setting("data", "there is no image to learn from"));
        }
        for phase in &self.phases {
            let names = phase.toward.iter().flat_map(BTreeMap::keys);
            if let Some(name) = names
                .into_iter()
                .find(|name| !self.distiller.terms.iter().any(|term| speaks(&term.name, name)))
            {
                return Err(Error::setting(
                    format!("{}.toward.{name}", phase.name),
                    "the objective has no such term",
                ));
            }
            if phase.every == 0 {
                return Err(Error::setting(
                    format!("{}.every", phase.name),
                    "counted from 1, which means every step",
                ));
            }
            if phase.split == LearnSplit::Search && self.search.is_none_or(|search| search.steps() == 0) {
                let problem = "no image is held out of training for it to learn from";
                return Err(Error::setting(format!("{}.split", phase.name), problem));
            }
        }
        self.check_together()
    }

    /// Everything needed to go on from here.
    pub fn checkpoint(&self, progress: &Progress) -> Result<Checkpoint> {
        let state = |phase: &Phase| Ok((phase.name.clone(), phase.optimizer.state()?));
        Ok(Checkpoint {
            progress: progress.clone(),
            weights: self.params.tensors("")?,
            optimizers: self.phases.iter().map(state).collect::<Result<_>>()?,
            ema: self.ema.as_ref().map(Ema::state).transpose()?,
        })
    }

    /// Takes up what [`Training::checkpoint`] gave, strictly, and says how far it had come.
    ///
    /// # Errors
    /// [`Error::Unfit`] when it is another run's.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<Progress> {
        let nothing = Tensors::new();
        self.params.load("", &checkpoint.weights)?;
        for phase in &mut self.phases {
            phase.optimizer.load_state(checkpoint.optimizers.get(&phase.name).unwrap_or(&nothing))?;
        }
        if let Some(ema) = &self.ema {
            ema.load_state(checkpoint.ema.as_ref().unwrap_or(&nothing))?;
        }
        Ok(checkpoint.progress.clone())
    }

    /// Epochs in the run, a last partial one counted whole.
    pub(crate) fn last_epoch(&self) -> usize {
        let all = self.train.steps() as u64;
        self.steps.map_or(self.epochs, |steps| self.epochs.min(steps.div_ceil(all) as usize))
    }

    /// Steps in an epoch.
    pub(crate) fn steps_in(&self, epoch: usize) -> usize {
        let all = self.train.steps();
        let before = epoch as u64 * all as u64;
        self.steps.map_or(all, |steps| all.min(steps.saturating_sub(before) as usize))
    }

    pub(crate) fn moment(&self, at: &Progress) -> Moment {
        Moment { epoch: at.epoch, step: at.step, steps: self.train.steps(), epochs: self.epochs }
    }

    /// The images of a split.
    ///
    /// # Errors
    /// [`Error::Setting`] when nothing is held out.
    pub(crate) fn images(&self, split: LearnSplit) -> Result<&'a dyn Batches> {
        match split {
            LearnSplit::Train => Ok(self.train),
            LearnSplit::Search => self.search.ok_or_else(no_search),
        }
    }

    /// Steps in the whole run, those of interludes among them.
    pub fn work(&self) -> u64 {
        let all = self.train.steps() as u64 * self.epochs as u64;
        let aside = self.phases.iter().filter_map(|phase| {
            let interlude = phase.interlude.as_ref()?;
            let times = interlude.before.iter().filter(|&&epoch| epoch < self.last_epoch()).count();
            Some((times * interlude.passes * self.images(phase.split).ok()?.steps()) as u64)
        });
        self.steps.map_or(all, |steps| all.min(steps)) + aside.sum::<u64>()
    }

    /// Whether a phase that is due learns from the search split.
    pub(crate) fn searches(&self, at: &Step) -> bool {
        self.phases.iter().any(|phase| phase.split == LearnSplit::Search && phase.due(at))
    }

    /// Sits the examinations that are due after an epoch; `None` when it should stop instead.
    ///
    /// # Errors
    /// [`Error::Diverged`] when the last step has spoiled the weights: no later one would have told.
    pub(crate) fn examine(&self, at: &Progress, stop: &Stop) -> Result<Option<BTreeMap<String, Evaluation>>> {
        let (epoch, last) = (at.epoch, at.epoch + 1 == self.last_epoch());
        let mut results = BTreeMap::new();
        for exam in self.exams.iter().filter(|exam| last || (epoch + 1).is_multiple_of(exam.every)) {
            let Some(evaluation) = exam.sit(stop, self.world)? else { return Ok(None) };
            if !evaluation.loss.is_finite() {
                let (what, value) = (format!("{}/loss", exam.name), evaluation.loss);
                return Err(Error::Diverged { what, value, epoch, step: at.steps.saturating_sub(1) });
            }
            results.insert(exam.name.clone(), evaluation);
        }
        Ok(Some(results))
    }

    /// The examination that the best epoch is kept by, if there is one.
    pub(crate) fn selects(&self) -> Option<&str> {
        self.exams.iter().find(|exam| exam.split == Split::Search).map(|exam| exam.name.as_str())
    }

    pub(crate) fn report(&self, at: &Progress, exams: BTreeMap<String, Evaluation>) -> EpochReport {
        let end = Moment { step: at.step.saturating_sub(1), ..self.moment(at) };
        let phase = |phase: &Phase| {
            let sums = at.sums.get(&phase.name)?;
            let mut terms: BTreeMap<_, _> =
                sums.iter().map(|(name, &(images, sum))| (name.clone(), sum / images as f64)).collect();
            let loss = terms.remove(crate::tally::LOSS)?;
            Some((phase.name.clone(), PhaseReport { lr: phase.lr.at(&end), loss, terms }))
        };
        EpochReport {
            epoch: at.epoch,
            epochs: self.last_epoch(),
            steps: at.steps,
            images: at.images,
            seconds: at.seconds,
            phases: self.phases.iter().filter_map(phase).collect(),
            exams,
            best: at.best.clone(),
        }
    }
}
