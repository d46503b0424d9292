use crate::distiller::no_search;
use sokd_core::{Batch, Batches, Result};

/// One batch after the other, epoch after epoch, from any place on.
pub(crate) struct Endless<'a> {
    batches: &'a dyn Batches,
    taken: u64,
    epoch: Option<Box<dyn Iterator<Item = Result<Batch>> + Send + 'a>>,
}

impl<'a> Endless<'a> {
    /// Goes on after `taken` batches.
    pub(crate) fn new(batches: &'a dyn Batches, taken: u64) -> Self {
        Self { batches, taken, epoch: None }
    }

    pub(crate) fn next(&mut self) -> Result<Batch> {
        let steps = self.batches.steps() as u64;
        if steps == 0 {
            return Err(no_search());
        }
        if self.taken.is_multiple_of(steps) {
            self.epoch = None;
        }
        let place = (self.taken / steps, self.taken % steps);
        let epoch = self.epoch.get_or_insert_with(|| self.batches.epoch(place.0 as usize, place.1 as usize));
        self.taken += 1;
        epoch.next().unwrap_or_else(|| Err(no_search()))
    }
}
