use crate::clock::Clock;
use crate::endless::Endless;
use crate::interlude::interlude;
use crate::together::Wishes;
use crate::{Checkpoint, Checkpoints, Hand, Observer, Progress, Shown, Steps, Stop, Sums, Tally, Training};
use sokd_core::{Error, Result, Step};
use sokd_world::World;
use std::cell::RefCell;

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
/// Where several processes train together, rank 0 says where all begin, and it alone should be given `checkpoints`. A wish
/// to stop that any of them hears ends all after the same step.
///
/// # Errors
/// Whatever its parts meet, and [`Error::Diverged`]; what was saved before stays. [`Error::Parted`] when another process
/// is gone: the last whole step is saved.
pub fn fit(
    run: &mut Training<'_>,
    at: Progress,
    checkpoints: Option<&Checkpoints>,
    stop: &Stop,
    watch: &mut [Box<dyn Observer>],
) -> Result<Outcome> {
    run.check()?;
    let at = run.meet(at)?;
    let (clock, world) = (Clock::from(&at), run.world);
    let desk = Desk { checkpoints, stop, clock, world, whole: RefCell::default() };
    let outcome = train(run, at, &desk, watch);
    if let Err(Error::Parted { .. }) = outcome {
        desk.save_whole()?;
    }
    outcome
}

fn train(
    run: &mut Training<'_>,
    mut at: Progress,
    desk: &Desk<'_>,
    watch: &mut [Box<dyn Observer>],
) -> Result<Outcome> {
    let train = run.train;
    let mut steps = Steps::new(run.params.clone());
    let mut search = run.search.map(|batches| Endless::new(batches, at.searched));
    watch.iter_mut().try_for_each(|observer| observer.begin(&at))?;

    while at.epoch < run.last_epoch() {
        if interlude(run, &mut at, desk, &mut steps, watch)? {
            return Ok(Outcome::Stopped(at));
        }
        let mut tally = Tally::new(&at.sums)?;
        let left = run.steps_in(at.epoch) - at.step;
        for batch in train.epoch(at.epoch, at.step).take(left) {
            let now = Step { epoch: at.epoch, index: at.steps, ..Step::first(run.key) };
            let held_out = search.as_mut().filter(|_| run.searches(&now)).map(Endless::next).transpose()?;
            let (train, search) = (Shown::new(batch?), held_out.map(Shown::new));
            let hand = Hand { train, search, world: run.world };
            let moment = run.moment(&at);

            steps.take(&run.distiller, &mut run.phases, &hand, (now, moment), &mut tally, watch)?;
            run.share_statistics(hand.train.images()?)?;
            if let Some(ema) = &run.ema {
                ema.update()?;
            }

            at.step += 1;
            at.steps += 1;
            at.searched += u64::from(hand.search.is_some());
            let shows = run.distiller.lens.as_ref().map_or(1, |lens| lens.shows(&now));
            let leave = desk.heed(run, &mut at, hand.images(shows)?, |at| {
                at.sums = tally.sums()?;
                Ok(())
            })?;
            if leave {
                return Ok(Outcome::Stopped(at));
            }
        }

        at.sums = tally.sums()?;
        desk.clock.note(&mut at);
        let Some(exams) = run.examine(&at, desk.stop)? else {
            desk.save(run, &at)?;
            return Ok(Outcome::Stopped(at));
        };
        desk.clock.note(&mut at);
        let improved = at.judge(&exams);
        let report = run.report(&at, exams);
        watch.iter_mut().try_for_each(|observer| observer.epoch(&report))?;

        at = Progress { epoch: at.epoch + 1, step: 0, sums: Sums::new(), aside: at.aside.next(), ..at };
        if let Some(checkpoints) = desk.checkpoints
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
    pub(crate) clock: Clock,
    world: &'a World,
    /// After the last whole step, where another process may be missed in the middle of the next: some of its phases have
    /// moved their weights then, and what was learned before would be lost.
    whole: RefCell<Option<Checkpoint>>,
}

impl Desk<'_> {
    /// Counts a step's images, those of this process, and saves if someone wishes it, once `note` has brought `at` up to
    /// date; `true` where it is time to leave.
    pub(crate) fn heed(
        &self,
        run: &Training<'_>,
        at: &mut Progress,
        images: usize,
        note: impl FnOnce(&mut Progress) -> Result<()>,
    ) -> Result<bool> {
        let own = Wishes { leave: self.stop.asked(), save: self.stop.save_asked(), images: images as u64 };
        let Wishes { leave, save, images } = own.of_all(self.world)?;
        at.images += images;
        let keep = self.checkpoints.is_some() && !self.world.is_alone();
        if leave || save || keep {
            note(at)?;
            self.clock.note(at);
        }
        if leave || save {
            self.save(run, at)?;
        } else if keep {
            *self.whole.borrow_mut() = Some(run.checkpoint(at)?);
        }
        Ok(leave)
    }

    pub(crate) fn save(&self, run: &Training<'_>, at: &Progress) -> Result<()> {
        self.whole.take();
        self.checkpoints.map_or(Ok(()), |checkpoints| checkpoints.save(&run.checkpoint(at)?))
    }

    /// Saves the last whole step, if it is not saved yet.
    fn save_whole(&self) -> Result<()> {
        let Some((whole, checkpoints)) = self.whole.take().zip(self.checkpoints) else { return Ok(()) };
        checkpoints.save(&whole)
    }
}
