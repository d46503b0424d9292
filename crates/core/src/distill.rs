use crate::{Backbone, Error, Forward, Key, Mode, Result, Terms};
use candle::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where training stands, for whatever is scheduled or random.
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Epochs finished before this one.
    pub epoch: usize,
    /// Steps finished before this one, in the whole run.
    pub index: u64,
    /// The randomness of this step.
    pub key: Key,
    /// Whether a gradient for the policies of plug-ins is wanted: it can cost more than the pass itself, so a pass
    /// that moves other weights goes without.
    pub steers: bool,
    /// Whether a gradient for the weights that are not a policy's is wanted. A pass that only asks how a policy would
    /// change the terms holds the student still, and saves the way back through it.
    pub learns: bool,
    /// Whether a gradient for what the [lens](crate::Lens) learns is wanted.
    pub focuses: bool,
    /// Whether no phase moves a policy in this epoch: what was read of one in an earlier step of it holds, and a device need not be
    /// asked again.
    pub settled: bool,
    /// Whether everyone who [draws](DistillLoss::draw) ahead has done so: what came of it lies where a device reads it.
    pub drawn: bool,
}

impl Step {
    /// The first step of a run.
    pub fn first(key: Key) -> Self {
        Self {
            epoch: 0,
            index: 0,
            key,
            steers: false,
            learns: true,
            focuses: false,
            settled: false,
            drawn: false,
        }
    }
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

    /// Stage `stage`'s map, read as `feature` says.
    pub fn feature(&self, stage: usize, feature: Feature) -> Result<Tensor> {
        match feature {
            Feature::Map => Ok(self.out.stage(stage)?.map.clone()),
            Feature::Preact => self.preact(stage),
        }
    }

    /// Stage `stage`'s map before its last non-linearity.
    pub fn preact(&self, stage: usize) -> Result<Tensor> {
        self.net.preact(stage, self.out.stage(stage)?, self.mode.quiet())
    }
}

/// Which reading of a stage a method wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// As the next stage reads it, behind the last non-linearity.
    #[default]
    Map,
    /// Before the last non-linearity.
    Preact,
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
    /// How often a [lens](crate::Lens) shows the examples, one showing behind the other.
    pub showings: usize,
    /// Who learns.
    pub student: Side<'a>,
    /// Who is learned from.
    pub teacher: Option<Side<'a>>,
    /// The student's maps in the teacher's shape, by the name of the adapter that brought them there: a plug-in and
    /// its host that share an adapter run it once.
    pub adapted: BTreeMap<String, Tensor>,
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
            adapted: BTreeMap::new(),
            ..self
        })
    }
}

/// A comparison of student and teacher.
pub trait DistillLoss: Send + Sync {
    /// Named parts, one value per example; weights and means are the caller's.
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms>;

    /// Those of its terms that are named, and perhaps others: a plug-in that has said all of them does not ask who
    /// stands behind it.
    fn named(&self, pair: &Pair<'_>, at: &Step, names: &[&str]) -> Result<Terms> {
        let _ = names;
        self.terms(pair, at)
    }

    /// Draws for a step ahead of it, and lays what comes of it where its device reads it in a step that is
    /// [drawn](Step::drawn): so a GPU can be told the same step again, with other draws. Whoever draws on the way has nothing
    /// to do here, and is told operation by operation.
    fn draw(&self, at: &Step) -> Result<()> {
        let _ = at;
        Ok(())
    }
}

/// The group of weights by which plug-ins draw, where a phase learns them.
pub const POLICY: &str = "policy";

/// A plug-in: rewrites what a loss is about to compare, and may ask a price of its own.
pub trait Refiner: Send + Sync {
    /// The pair as the loss will see it, and the plug-in's own terms.
    fn refine<'a>(&self, pair: Pair<'a>, at: &Step) -> Result<(Pair<'a>, Terms)>;

    /// Draws for a step ahead of it, as [losses](DistillLoss::draw) do.
    fn draw(&self, at: &Step) -> Result<()> {
        let _ = at;
        Ok(())
    }
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

    fn named(&self, pair: &Pair<'_>, at: &Step, names: &[&str]) -> Result<Terms> {
        let (pair, mut terms) = self.refiner.refine(pair.clone(), at)?;
        let said = |name: &&str| terms.iter().any(|term| term.name == *name);
        let names: Vec<_> = names.iter().copied().filter(|name| !said(name)).collect();
        if !names.is_empty() {
            terms.extend(self.loss.named(&pair, at, &names)?);
        }
        Ok(terms)
    }

    fn draw(&self, at: &Step) -> Result<()> {
        self.refiner.draw(at)?;
        self.loss.draw(at)
    }
}
