use crate::together::mean;
use crate::{Descend, Distiller, Hand, Interlude, Observer, Shown, StepReport, Tally, Toward, Update};
use candle::backprop::GradStore;
use sokd_core::{LENS, LearnSplit, Mode, POLICY, Result, Step, Terms};
use sokd_nn::{LrSchedule, Moment, Optimizer, clip_grad_norm};
use sokd_world::{ALONE, World};
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
    /// One that goes down the gradient of the whole objective, in every step, on whatever students learn from.
    pub fn new(name: &str, optimizer: Box<dyn Optimizer>) -> Self {
        Self {
            name: name.to_owned(),
            toward: None,
            split: LearnSplit::Train,
            mode: Mode::Train,
            every: 1,
            epochs: 0..usize::MAX,
            interlude: None,
            update: Box::new(Descend {}),
            clip: None,
            optimizer,
            lr: LrSchedule::default(),
        }
    }

    /// Whether it acts in a step.
    pub fn due(&self, at: &Step) -> bool {
        self.acts_in(at.epoch) && at.index.is_multiple_of(self.every)
    }

    /// A step as it looks to this phase.
    fn inside(&self, world: &World, at: &Step) -> Step {
        let key = at.key.fold_in(at.index).fold(&self.name);
        Step {
            // Other images, other draws.
            key: if world.leads() { key } else { key.fold("rank").fold_in(world.rank() as u64) },
            steers: self.mode != Mode::Train,
            focuses: self.focuses(),
            ..*at
        }
    }

    /// Whether it acts in some step of an epoch.
    fn acts_in(&self, epoch: usize) -> bool {
        self.interlude.is_none() && self.epochs.contains(&epoch)
    }

    /// Whether it moves a policy in steps of an epoch.
    pub(crate) fn searches_in(&self, epoch: usize) -> bool {
        self.acts_in(epoch) && self.moves(POLICY)
    }

    /// Whether it moves what a lens learns.
    pub(crate) fn focuses(&self) -> bool {
        self.moves(LENS)
    }

    /// Whether it moves nothing else, by the gradient of its own images.
    pub(crate) fn focuses_only(&self) -> bool {
        self.focuses() && !self.update.asks_all() && self.groups().all(|group| group == LENS)
    }

    fn moves(&self, group: &str) -> bool {
        self.groups().any(|own| own == group)
    }

    /// Of which group each of its weights is.
    fn groups(&self) -> impl Iterator<Item = &str> {
        self.optimizer.vars().iter().filter_map(|(name, _)| name.split('.').next())
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
        let inside = self.inside(hand.world, &at);
        let (terms, mut grads) = self.update.grads(distiller, self, hand, &inside)?;
        if at.epoch == self.epochs.start && !tally.knows(&self.name) {
            let unreached = self.optimizer.vars().iter().filter(|(_, var)| grads.get(var).is_none());
            let unreached: Vec<&str> = unreached.map(|(name, _)| name.as_str()).collect();
            if !unreached.is_empty() {
                watch.iter_mut().try_for_each(|observer| observer.unreached(&self.name, &unreached))?;
            }
        }
        let (own, vars) = (hand.of(self.split)?.images()?, self.optimizer.vars().iter().map(|(_, var)| var));
        let (images, terms) = mean(hand.world, own, (terms, &mut grads), vars)?;
        let said = tally.sum(&self.name, images, &terms)?;
        tally.guard(&self.name, &inside)?;
        self.clip(&mut grads)?;
        self.optimizer.aim(lr)?;
        self.optimizer.advance(&grads)?;
        let report = StepReport { phase: &self.name, at: &inside, interlude: here, terms: &said, lr, images };
        self.optimizer.count();
        tell(&report, tally, watch)
    }

    fn clip(&self, grads: &mut GradStore) -> Result<()> {
        let Some(max) = self.clip else { return Ok(()) };
        // Each group by itself: one with steep gradients shall not hold up the others.
        self.optimizer.groups().into_iter().try_for_each(|group| clip_grad_norm(group, grads, max).map(drop))
    }

    /// What it sees in a step, once everyone has drawn for it.
    pub(crate) fn draw(&self, distiller: &Distiller, hand: &Hand<'_>, at: &Step) -> Result<Hand<'static>> {
        let inside = self.inside(&ALONE, at);
        let all = self.update.asks_all().then_some(&None);
        distiller.lay(&all.into_iter().chain([&self.toward]).collect::<Vec<_>>(), &inside)?;
        let look = |shown: &Shown| distiller.look(&shown.batch, &inside);
        let search = match self.split {
            LearnSplit::Train => None,
            LearnSplit::Search => Some(look(hand.of(self.split)?)?),
        };
        Ok(Hand { search, ..Hand::alone(look(&hand.train)?) })
    }

    /// What the device does in a step, with what was [drawn](Self::draw) of so many images: the weights go as far as they were
    /// aimed, those of a lens once the gradient that is left here is [carried](Self::carry) to them.
    pub(crate) fn advance(
        &mut self,
        distiller: &Distiller,
        (images, drawn): (usize, &Hand<'_>),
        at: &Step,
        tally: &mut Tally,
    ) -> Result<Terms> {
        let inside = Step { drawn: true, ..self.inside(drawn.world, at) };
        let (terms, mut grads) = self.update.grads(distiller, self, drawn, &inside)?;
        let said = tally.sum(&self.name, images, &terms)?;
        if self.focuses() {
            drawn.of(self.split)?.leave(&grads)?;
            return Ok(said);
        }
        self.clip(&mut grads)?;
        self.optimizer.advance(&grads)?;
        Ok(said)
    }

    /// Moves a lens by the gradient that a step has left behind its images, where `drawn` was copied to.
    pub(crate) fn carry(&mut self, drawn: &Hand<'_>, left: &Hand<'_>) -> Result<()> {
        if !self.focuses() {
            return Ok(());
        }
        let mut grads = drawn.of(self.split)?.across(left.of(self.split)?)?;
        self.clip(&mut grads)?;
        self.optimizer.advance(&grads)
    }

    /// What is left of that step to do on this side.
    pub(crate) fn finish(
        &mut self,
        (at, here, lr): (&Step, Option<Moment>, f64),
        (images, terms): (usize, &Terms),
        tally: &mut Tally,
        watch: &mut [Box<dyn Observer>],
    ) -> Result<()> {
        let inside = self.inside(&ALONE, at);
        tally.guard(&self.name, &inside)?;
        self.optimizer.count();
        tell(&StepReport { phase: &self.name, at: &inside, interlude: here, terms, lr, images }, tally, watch)
    }
}

/// Counts a step, and lets all know of it.
fn tell(report: &StepReport<'_>, tally: &mut Tally, watch: &mut [Box<dyn Observer>]) -> Result<()> {
    tally.count(report.phase, report.images, report.terms);
    watch.iter_mut().try_for_each(|observer| observer.step(report))
}
