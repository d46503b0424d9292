use crate::endless::Endless;
use crate::interlude::interlude;
use crate::{Checkpoints, Hand, Observer, Progress, Shown, Stop, Sums, Tally, Training, step};
use sokd_core::{Result, Step};
use std::time::Instant;

/// How [`fit`] ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Finished(Progress),
    /// It was asked to stop, and has saved what it had.
    Stopped(Progress),
}

/// Trains, from where `at` says. What is saved on the way is enough to come to the same end, bit for bit.
///
/// # Errors
/// Whatever its parts meet, and [`sokd_core::Error::Diverged`]; what was saved before stays.
pub fn fit(
    run: &mut Training<'_>,
    mut at: Progress,
    checkpoints: Option<&Checkpoints>,
    stop: &Stop,
    watch: &mut [Box<dyn Observer>],
) -> Result<Outcome> {
    run.check()?;
    let desk = Desk { checkpoints, stop, clock: Clock::new(at.seconds) };
    let train = run.train;
    let mut search = run.search.map(|batches| Endless::new(batches, at.searched));
    watch.iter_mut().try_for_each(|observer| observer.begin(&at))?;

    while at.epoch < run.last_epoch() {
        if interlude(run, &mut at, &desk, watch)? {
            return Ok(Outcome::Stopped(at));
        }
        let mut tally = Tally::new(&at.sums)?;
        let left = run.steps_in(at.epoch) - at.step;
        for batch in train.epoch(at.epoch, at.step).take(left) {
            let now = Step { epoch: at.epoch, index: at.steps, ..Step::first(run.key) };
            let held_out = search.as_mut().filter(|_| run.searches(&now)).map(Endless::next).transpose()?;
            let hand = Hand { train: Shown::new(batch?), search: held_out.map(Shown::new) };
            let moment = run.moment(&at);

            step(&run.distiller, &mut run.phases, &hand, (now, moment), &mut tally, watch)?;
            if let Some(ema) = &run.ema {
                ema.update()?;
            }

            at.step += 1;
            at.steps += 1;
            at.searched += u64::from(hand.search.is_some());
            let shows = run.distiller.lens.as_ref().map_or(1, |lens| lens.shows(&now));
            at.images += hand.images(shows)? as u64;
            let leave = desk.heed(run, &mut at, |at| {
                at.sums = tally.sums()?;
                Ok(())
            })?;
            if leave {
                return Ok(Outcome::Stopped(at));
            }
        }

        at.sums = tally.sums()?;
        at.seconds = desk.seconds();
        let Some(exams) = run.examine(&at, stop)? else {
            desk.save(run, &at)?;
            return Ok(Outcome::Stopped(at));
        };
        at.seconds = desk.seconds();
        let improved = at.judge(&exams);
        let report = run.report(&at, exams);
        watch.iter_mut().try_for_each(|observer| observer.epoch(&report))?;

        at = Progress { epoch: at.epoch + 1, step: 0, sums: Sums::new(), aside: at.aside.next(), ..at };
        if let Some(checkpoints) = checkpoints
            && run.selects().is_some_and(|exam| improved.iter().any(|name| name == exam))
        {
            checkpoints.save_best(&run.checkpoint(&at)?)?;
        }
        desk.save(run, &at)?;
    }
    Ok(Outcome::Finished(at))
}

/// Where a run is kept, who may end it, and what time it is.
pub(crate) struct Desk<'a> {
    checkpoints: Option<&'a Checkpoints>,
    stop: &'a Stop,
    clock: Clock,
}

impl Desk<'_> {
    /// Saves if someone wishes it, once `note` has brought `at` up to date; `true` where it is time to leave.
    pub(crate) fn heed(
        &self,
        run: &Training<'_>,
        at: &mut Progress,
        note: impl FnOnce(&mut Progress) -> Result<()>,
    ) -> Result<bool> {
        let leave = self.stop.asked();
        if leave || self.stop.save_asked() {
            note(at)?;
            at.seconds = self.seconds();
            self.save(run, at)?;
        }
        Ok(leave)
    }

    pub(crate) fn save(&self, run: &Training<'_>, at: &Progress) -> Result<()> {
        self.checkpoints.map_or(Ok(()), |checkpoints| checkpoints.save(&run.checkpoint(at)?))
    }

    /// Of the run until now.
    pub(crate) fn seconds(&self) -> f64 {
        self.clock.seconds()
    }
}

/// Wall-clock time, of this call and the interrupted ones before.
struct Clock {
    before: f64,
    began: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "time is counted as a cost; nothing is decided by it")]
    fn new(before: f64) -> Self {
        Self { before, began: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        self.before + self.began.elapsed().as_secs_f64()
    }
}
