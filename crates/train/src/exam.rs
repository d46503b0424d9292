use crate::Stop;
use crate::evaluate::{Evaluation, Marks};
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Batches, Mode, Result, Split};

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
    pub(crate) fn sit(&self, stop: &Stop) -> Result<Option<Evaluation>> {
        let teacher = self.teacher.as_deref();
        let mut marks = Marks::new(self.net.info().classes);
        for batch in self.batches.epoch(0, 0) {
            if stop.asked() {
                return Ok(None);
            }
            let batch = batch?;
            marks.add(&self.net.forward(&batch.images, Mode::Eval)?.logits, &batch.labels, teacher)?;
        }
        marks.evaluation(teacher.is_some()).map(Some)
    }
}
