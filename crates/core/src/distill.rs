use crate::{Backbone, Error, Forward, Key, Mode, Result, Terms};
use candle::Tensor;

/// Where training stands, for whatever is scheduled or random.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Epochs finished before this one.
    pub epoch: usize,
    /// Steps finished before this one, in the whole run.
    pub index: u64,
    /// The randomness of this step.
    pub key: Key,
}

/// One network, how it ran, and what it said about the batch.
#[derive(Clone)]
pub struct Side<'a> {
    /// The network, for whoever must run a part of it again.
    pub net: &'a dyn Backbone,
    /// How its normalisation layers ran.
    pub mode: Mode,
    /// What it said.
    pub out: Forward,
}

impl<'a> Side<'a> {
    /// Shows `images` to `net`.
    pub fn new(net: &'a dyn Backbone, mode: Mode, images: &Tensor) -> Result<Self> {
        Ok(Self { net, mode, out: net.forward(images, mode)? })
    }

    /// Replaces a stage's map and lets the rest of the network see the change.
    pub fn rewrite(self, stage: usize, map: Tensor) -> Result<Self> {
        let out = self.net.resume(&self.out, stage, map, self.mode.quiet())?;
        Ok(Self { out, ..self })
    }

    /// Stage `stage`'s map before its last non-linearity.
    pub fn preact(&self, stage: usize) -> Result<Tensor> {
        self.net.preact(stage, self.out.stage(stage)?, self.mode.quiet())
    }
}

/// What a loss compares.
///
/// # Shapes
/// `images`: `(batch, height, width, 3)` in [0, 1]; `labels`, `rows`: `(batch,)`, `u32`.
#[derive(Clone)]
pub struct Pair<'a> {
    /// What both networks saw.
    pub images: Tensor,
    /// The true classes.
    pub labels: Tensor,
    /// Which examples of the split these are, for losses that remember examples.
    pub rows: Tensor,
    /// Who learns.
    pub student: Side<'a>,
    /// Who is learned from.
    pub teacher: Option<Side<'a>>,
}

impl<'a> Pair<'a> {
    /// The teacher, or an error that says who needs one.
    pub fn teacher(&self, who: &'static str) -> Result<&Side<'a>> {
        self.teacher.as_ref().ok_or(Error::NoTeacher(who))
    }

    /// Shows both networks other images of the same things.
    pub fn look(self, images: Tensor) -> Result<Self> {
        let again = |side: Side<'a>| Side::new(side.net, side.mode, &images);
        Ok(Self {
            student: again(self.student)?,
            teacher: self.teacher.map(again).transpose()?,
            images,
            ..self
        })
    }
}

/// A comparison of student and teacher.
pub trait DistillLoss: Send + Sync {
    /// Named parts, one value per example; weights and means are the caller's.
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms>;
}

/// A plug-in: rewrites what a loss is about to compare, and may ask a price of its own.
pub trait Refiner: Send + Sync {
    /// The pair as the loss will see it, and the plug-in's own terms.
    fn refine<'a>(&self, pair: Pair<'a>, at: &Step) -> Result<(Pair<'a>, Terms)>;
}

/// Any loss behind a plug-in is again a loss.
pub struct Refined {
    /// Who rewrites.
    pub refiner: Box<dyn Refiner>,
    /// Who compares.
    pub loss: Box<dyn DistillLoss>,
}

impl DistillLoss for Refined {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        // Tensors are reference counted: cloning a pair copies counters, not maps.
        let (pair, mut terms) = self.refiner.refine(pair.clone(), at)?;
        terms.extend(self.loss.terms(&pair, at)?);
        Ok(terms)
    }
}
