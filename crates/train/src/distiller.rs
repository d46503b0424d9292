use crate::Schedule;
use sokd_core::{Backbone, Batch, DistillLoss, Error, LearnSplit, Mode, Pair, Result, Side, Step, Terms};
use std::collections::BTreeMap;

/// One named part of the objective.
pub struct TermOf {
    /// How logs call it, in front of its own terms' names: `distill` over `kd` is `distill/kd`.
    pub name: String,
    /// What it counts for.
    pub weight: Schedule,
    /// Who compares.
    pub loss: Box<dyn DistillLoss>,
}

/// A student, perhaps a teacher, and what is asked of them.
pub struct Distiller {
    /// Who learns.
    pub student: Box<dyn Backbone>,
    /// Who is learned from: a network on weights that no graph tracks.
    pub teacher: Option<Box<dyn Backbone>>,
    /// The objective.
    pub terms: Vec<TermOf>,
}

/// Weights for some terms in place of the objective's own; terms not named count nothing.
pub type Toward = Option<BTreeMap<String, f64>>;

impl Distiller {
    /// Shows a batch to both networks and asks every term that counts.
    pub fn terms(&self, batch: &Batch, mode: Mode, toward: &Toward, at: &Step) -> Result<Terms> {
        let student = Side::new(self.student.as_ref(), mode, &batch.images)?;
        let teacher =
            self.teacher.as_deref().map(|net| Side::new(net, Mode::Eval, &batch.images)).transpose()?;
        let pair = Pair {
            images: batch.images.clone(),
            labels: batch.labels.clone(),
            rows: batch.rows.clone(),
            student,
            teacher: teacher.map(|side| Side { out: side.out.detach(), ..side }),
        };
        let mut all = Terms::default();
        for TermOf { name, weight, loss } in &self.terms {
            let weight = match toward {
                None => weight.at(at),
                Some(toward) => toward.get(name).copied().unwrap_or(0.0),
            };
            if weight != 0.0 {
                let at = Step { key: at.key.fold(name), ..*at };
                all.extend(loss.terms(&pair, &at)?.under(name, weight));
            }
        }
        Ok(all)
    }
}

/// One batch of each split that a phase may ask for in a step.
#[derive(Clone, Debug)]
pub struct Hand {
    /// What students learn from.
    pub train: Batch,
    /// Held out of training, where a phase that is due learns from it.
    pub search: Option<Batch>,
}

impl Hand {
    /// The batch of a split.
    ///
    /// # Errors
    /// [`Error::Setting`] when nothing was drawn from it.
    pub fn of(&self, split: LearnSplit) -> Result<&Batch> {
        match split {
            LearnSplit::Train => Ok(&self.train),
            LearnSplit::Search => self.search.as_ref().ok_or_else(no_search),
        }
    }

    /// Images in the hand.
    pub fn images(&self) -> Result<usize> {
        let of = |batch: &Batch| batch.labels.dim(0);
        Ok(of(&self.train)? + self.search.as_ref().map(of).transpose()?.unwrap_or(0))
    }
}

pub(crate) fn no_search() -> Error {
    Error::setting("split", "a phase learns from the search split, and none is held out of training")
}
