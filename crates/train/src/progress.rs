use crate::{Aside, Best, Evaluation, Sums};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far a run has come: with the weights and what the optimisers remember, all there is to go on from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Epochs finished and judged.
    pub epoch: usize,
    /// Steps finished in the epoch that runs.
    pub step: usize,
    /// Steps finished in the run.
    pub steps: u64,
    /// Batches taken from the search split.
    pub searched: u64,
    /// Images shown to the networks, repetitions and what a lens adds counted.
    pub images: u64,
    /// Training and evaluation by the wall clock, interruptions not counted.
    pub seconds: f64,
    /// The same in seconds that processors gave to this process, all its threads together; none where that is not known.
    #[serde(default)]
    pub processor_seconds: Option<f64>,
    /// The terms of the epoch that runs, summed until now.
    pub sums: Sums,
    /// How far it has come in the passes before the epoch that runs.
    #[serde(default)]
    pub aside: Aside,
    /// The newest result of each examination.
    pub latest: BTreeMap<String, Evaluation>,
    /// The best result of each examination.
    pub best: BTreeMap<String, Best>,
}

impl Progress {
    /// Without its times: what two runs of the same have alike.
    #[must_use]
    pub fn timeless(&self) -> Self {
        Self { seconds: 0.0, processor_seconds: None, ..self.clone() }
    }

    /// Takes in the results after an epoch, and says which examinations have a new best.
    pub(crate) fn judge(&mut self, exams: &BTreeMap<String, Evaluation>) -> Vec<String> {
        let mut improved = Vec::new();
        for (name, evaluation) in exams {
            self.latest.insert(name.clone(), evaluation.clone());
            if self.best.get(name).is_none_or(|best| evaluation.correct > best.evaluation.correct) {
                self.best.insert(name.clone(), Best { epoch: self.epoch, evaluation: evaluation.clone() });
                improved.push(name.clone());
            }
        }
        improved
    }
}
