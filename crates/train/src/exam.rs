use crate::Stop;
use crate::evaluate::{Evaluation, Marks};
use crate::together::seen;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Batches, Mode, Result, Split};
use sokd_world::World;

/// A look at how the student does.
pub struct Exam<'a> {
    /// How reports call it: `test`, `search`, `ema-test`.
    pub name: String,
    /// Whose images they are: the best epoch is *kept* by an examination on [`Split::Search`] alone, and by the first
    /// of them; any other's is only reported.
    pub split: Split,
    /// The student on weights that no graph tracks ([`sokd_nn::Params::frozen`]).
    pub net: Box<dyn Backbone>,
    /// The images, in an order of their own that never changes.
    pub batches: &'a dyn Batches,
    /// What the teacher says of them ([`crate::predictions`]).
    pub teacher: Option<Vec<u32>>,
    /// After every so many epochs, and after the last.
    pub every: usize,
}

/// The best epoch in an examination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Which, from 0; the first of equals.
    pub epoch: usize,
    /// How the student did.
    pub evaluation: Evaluation,
}

impl Exam<'_> {
    /// Examines the student, or gives up when it should stop: what is half judged is judged again after the resume.
    ///
    /// Several processes look at batches in turn, and each marks what all have seen: the same numbers as of one.
    pub(crate) fn sit(&self, stop: &Stop, world: &World) -> Result<Option<Evaluation>> {
        let teacher = self.teacher.as_deref();
        let mut marks = Marks::new(self.net.info().classes);
        let mut round = Vec::with_capacity(world.size());
        let mut batches = self.batches.epoch(0, 0).peekable();
        while let Some(batch) = batches.next() {
            round.push(batch?);
            if round.len() < world.size() && batches.peek().is_some() {
                continue;
            }
            let leave = stop.asked();
            let own = match round.get(world.rank()) {
                Some(batch) if !leave => Some(self.net.forward(&batch.images, Mode::Eval)?.logits),
                _ => None,
            };
            let Some(logits) = seen(world, leave, own, self.net.info().classes)? else { return Ok(None) };
            for (batch, logits) in round.drain(..).zip(&logits) {
                marks.add(logits, &batch.labels, teacher)?;
            }
        }
        marks.evaluation(teacher.is_some()).map(Some)
    }
}
