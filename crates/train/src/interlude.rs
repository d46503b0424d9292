use crate::fit::Desk;
use crate::tally::LOSS;
use crate::{Hand, Observer, PassReport, PhaseReport, Progress, Shown, Steps, Sums, Tally, Training};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{LearnSplit, Result, Step};
use sokd_nn::{Moment, Plateau};
use std::collections::BTreeMap;

/// Passes of a phase over its images before some epochs, in place of acting in steps of the student's.
///
/// The phase begins each interlude with an optimiser that remembers nothing; the clock of its learning rate counts
/// passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interlude {
    /// The epochs, from 0, that it comes before.
    pub before: Vec<usize>,
    /// Passes over the images, each time.
    #[serde(default = "one")]
    pub passes: usize,
    /// What becomes of the learning rate where the loss rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plateau: Option<Plateau>,
}

fn one() -> usize {
    1
}

/// How far a run has come in the passes before the epoch that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aside {
    /// Phases whose passes before this epoch are over.
    pub phases: usize,
    /// The loss of each pass that the next phase has finished here.
    pub losses: Vec<f64>,
    /// Steps finished in the pass that runs.
    pub step: usize,
    /// Passes finished in the run.
    pub passes: u64,
    /// Steps finished in all passes of the run.
    pub steps: u64,
    /// The terms of the pass that runs, summed until now.
    pub sums: Sums,
}

impl Aside {
    /// Before the next epoch nothing is done yet.
    pub(crate) fn next(self) -> Self {
        Self { phases: 0, ..self }
    }
}

/// Orders of images are numbered by epochs: those of passes lie beyond all that a run can reach.
const BEYOND: usize = 1 << 31;

/// Makes the passes that come before the epoch that begins, from where `at` says; `true` when it was asked to leave.
pub(crate) fn interlude(
    run: &mut Training<'_>,
    at: &mut Progress,
    desk: &Desk<'_>,
    steps: &mut Steps,
    watch: &mut [Box<dyn Observer>],
) -> Result<bool> {
    let comes = |interlude: &Interlude| interlude.before.contains(&at.epoch);
    let due = run.phases.iter().enumerate().filter_map(|(index, phase)| {
        phase
            .interlude
            .as_ref()
            .filter(|interlude| comes(interlude))
            .map(|interlude| (index, interlude.passes))
    });
    let due: Vec<(usize, usize)> = due.collect();
    while let Some(&(phase, passes)) = due.get(at.aside.phases) {
        while at.aside.losses.len() < passes {
            if pass(run, phase, at, desk, steps, watch)? {
                return Ok(true);
            }
        }
        at.aside.losses.clear();
        at.aside.phases += 1;
    }
    Ok(false)
}

fn pass(
    run: &mut Training<'_>,
    phase: usize,
    at: &mut Progress,
    desk: &Desk<'_>,
    steps: &mut Steps,
    watch: &mut [Box<dyn Observer>],
) -> Result<bool> {
    let split = run.phases[phase].split;
    let images = run.images(split)?;
    let Interlude { passes, plateau, .. } = run.phases[phase].interlude.clone().expect("an interlude is due");
    if at.aside.losses.is_empty() && at.aside.step == 0 {
        run.phases[phase].optimizer.forget()?;
    }
    let left = plateau.map_or(1.0, |plateau| plateau.left(&at.aside.losses));
    let moment = |at: &Progress| Moment {
        epoch: at.aside.losses.len(),
        step: at.aside.step,
        steps: images.steps(),
        epochs: passes,
    };
    let key = run.key.fold("interlude").fold_in(at.aside.passes);
    let mut tally = Tally::new(&at.aside.sums)?;
    for batch in images.epoch(BEYOND + at.aside.passes as usize, at.aside.step) {
        let batch = batch?;
        // An update that looks at both splits sees this one twice.
        let held_out = (split == LearnSplit::Search).then(|| Shown::new(batch.clone()));
        let hand = Hand { train: Shown::new(batch), search: held_out, world: run.world };
        let now = Step {
            epoch: at.epoch,
            index: at.steps,
            ..Step::first(key.fold("step").fold_in(at.aside.step as u64))
        };
        let (acts, here) = (&mut run.phases[phase], moment(at));
        let lr = left * acts.lr.at(&here);
        steps.act(&run.distiller, (phase, acts), &hand, (now, Some(here), lr), &mut tally, watch)?;
        let shown = hand.train.images()?;
        run.share_statistics(shown)?;
        at.aside.step += 1;
        at.aside.steps += 1;
        let leave = desk.heed(run, at, shown, |at| {
            at.aside.sums = tally.sums()?;
            Ok(())
        })?;
        if leave {
            return Ok(true);
        }
    }

    // The next pass is summed elsewhere.
    steps.release(phase);
    let (name, end) = (run.phases[phase].name.clone(), moment(at));
    let sums = tally.sums()?.remove(&name).unwrap_or_default();
    let mean = |(name, &(images, sum)): (&String, &(u64, f64))| (name.clone(), sum / images as f64);
    let mut terms: BTreeMap<_, _> = sums.iter().map(mean).collect();
    let loss = terms.remove(LOSS).unwrap_or(0.0);
    desk.clock.note(at);
    at.aside.losses.push(loss);
    at.aside.passes += 1;
    (at.aside.step, at.aside.sums) = (0, Sums::new());
    let lr = left * run.phases[phase].lr.at(&Moment { step: end.steps.saturating_sub(1), ..end });
    let report =
        PassReport { phase: &name, at, pass: end.epoch, passes, came: PhaseReport { lr, loss, terms } };
    watch.iter_mut().try_for_each(|observer| observer.pass(&report))?;
    desk.save(run, at)?;
    Ok(false)
}
