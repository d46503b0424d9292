//! A whole run, written down.

use crate::network::Arithmetic;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Backbone, Build, BuildCx, DistillLoss, LearnSplit, Result};
use sokd_data::{Augment, DataSpec};
use sokd_models::Precision;
use sokd_nn::{LrSchedule, OptimSpec, with_winograd};
use sokd_train::{Interlude, Schedule, UpdateSpec, Weighted};
use std::collections::BTreeMap;

use crate::graft::Grafting;
use crate::lens::LensSpec;
use crate::loss::LossSpec;
use crate::model::Model;
use crate::pixels::Pixels;
use crate::refine::Refine;

/// A whole run: which parts, which numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The root of all randomness.
    #[serde(default)]
    pub seed: u64,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a step.
    pub batch: usize,
    /// Ends the run after so many steps, whatever `epochs` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The images.
    pub data: DataSpec,
    /// What happens to an image before the student learns from it.
    #[serde(default)]
    pub augment: Augment,
    /// Who learns.
    pub student: StudentSpec,
    /// Who is learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherSpec>,
    /// What stands between the images and both networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lens: Option<LensSpec>,
    /// The terms of the objective, by name, in order.
    pub objective: IndexMap<String, TermSpec>,
    /// What moves, toward what, in the order of a step.
    pub phase: IndexMap<String, PhaseSpec>,
    /// How often and how the student is judged.
    #[serde(default)]
    pub evaluate: EvaluateSpec,
    /// A moving average of the student's weights, judged beside the student.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<EmaSpec>,
}

/// Who learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StudentSpec {
    /// A name such as `resnet20`, or a table with a `type`.
    pub model: Model,
    /// Weights to start from, in place of drawn ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Layers set into it, which stay there.
    #[serde(default, skip_serializing_if = "usual")]
    pub graft: Grafting,
    /// Whether convolutions of 3 × 3 go by Winograd where that is faster: wide networks then learn in fewer seconds, and
    /// all that they compute is off by a few millionths.
    #[serde(default, skip_serializing_if = "usual")]
    pub winograd: bool,
    /// In which numbers it computes: `single`, or `mixed`, for GPUs: maps in bfloat16, all else in single precision.
    #[serde(default, skip_serializing_if = "usual")]
    pub precision: Precision,
}

impl StudentSpec {
    /// How it computes.
    pub fn arithmetic(&self) -> Arithmetic {
        Arithmetic { winograd: self.winograd, precision: self.precision }
    }
}

/// The network and what is set into it.
impl Build<dyn Backbone> for StudentSpec {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Backbone>> {
        let net = with_winograd(self.winograd, || self.model.build(cx))?;
        let mut net = self.precision.of(net);
        self.graft.plant(net.as_mut(), cx)?;
        Ok(net)
    }
}

/// Who is learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TeacherSpec {
    /// A name such as `resnet56`, or a table with a `type`.
    pub model: Model,
    /// A file, `hub://owner/repository@revision/file`, `timm:<name>`, `torchvision:<name>`, `run:<directory>`, or `drawn`
    /// for weights as they are drawn.
    pub weights: String,
    /// The digest that the file must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the weights were trained under, where the file and the model do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixels: Option<Pixels>,
    /// The accuracy to find before the first step: it checks orientation, normalisation and names of weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expectation>,
    /// Whether convolutions of 3 × 3 go by Winograd where that is faster: what it says is then off by a few millionths.
    // Left out where it is so: runs from before there was a choice keep their names.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub winograd: bool,
    /// In which numbers it computes: `single`, or `mixed`, for GPUs: maps in bfloat16, all else in single precision.
    #[serde(default, skip_serializing_if = "usual")]
    pub precision: Precision,
    /// Whether it remembers what it said of an image and is asked about it once, for losses that read its embedding and its
    /// logits only. Images must not be cropped, turned or cut anew in every epoch.
    #[serde(default, skip_serializing_if = "usual")]
    pub cache: bool,
}

/// An accuracy in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Top-1 on the test images, in per cent.
    pub top1: f64,
    /// How far it may be off.
    #[serde(default)]
    pub within: f64,
}

/// A term of the objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermSpec {
    /// What it counts for: a number, or a schedule such as `{ ramp = 20 }`.
    #[serde(default)]
    pub weight: Schedule,
    /// The comparison.
    pub loss: LossSpec,
    /// Plug-ins in front of it.
    #[serde(default, skip_serializing_if = "usual")]
    pub refine: Refine,
    /// What the comparison itself counts for beside the prices that its plug-ins ask.
    #[serde(default, skip_serializing_if = "usual")]
    pub host: Schedule,
}

impl Build<dyn DistillLoss> for TermSpec {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        let host = Weighted { weight: self.host, loss: self.loss.build(cx)? };
        self.refine.wrap(Box::new(host), cx)
    }
}

/// One kind of update: which weights move, toward what, on which images, how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PhaseSpec {
    /// Groups of weights, by the first segment of their names.
    pub moves: Vec<String>,
    /// The optimiser.
    pub optim: OptimSpec,
    /// Its learning rate.
    pub lr: LrSchedule,
    /// Some of these weights, by the first segments of their names, that move in another way: `"adapter.skd"`.
    #[serde(default, skip_serializing_if = "usual")]
    pub apart: BTreeMap<String, ApartSpec>,
    /// The largest norm of the gradient, over all weights that move; those apart have a norm of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Acts on one step in so many.
    #[serde(default = "one")]
    pub every: u64,
    /// Acts from the first of these epochs, and not any more from the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<[usize; 2]>,
    /// Acts in passes of its own before some epochs, and in no step of the student's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interlude: Option<Interlude>,
    /// Shows a phase that does not move it the student at rest: by its running statistics, as when it is judged.
    #[serde(default, skip_serializing_if = "usual")]
    pub at_rest: bool,
    /// Weights for some terms in place of the objective's own, by name: a whole term (`distill`), or a part of what
    /// it says (`distill/aug`). Terms not named count nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toward: Option<BTreeMap<String, f64>>,
    /// How the objective becomes a direction.
    #[serde(default, skip_serializing_if = "usual")]
    pub update: UpdateSpec,
    /// Which images it sees.
    #[serde(default)]
    pub split: LearnSplit,
}

/// How some of a phase's weights move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApartSpec {
    /// What the phase's learning rate is multiplied by.
    pub lr: f64,
    /// The optimiser, in place of the phase's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optim: Option<OptimSpec>,
}

impl Default for ApartSpec {
    fn default() -> Self {
        Self { lr: 1.0, optim: None }
    }
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How often and how the student is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EvaluateSpec {
    /// After every so many epochs, and after the last.
    pub every: usize,
    /// Images at once; it changes the speed and nothing else.
    pub batch: usize,
}

impl Default for EvaluateSpec {
    fn default() -> Self {
        Self { every: 1, batch: 250 }
    }
}

/// A moving average of the student's weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaSpec {
    /// What stays of the average in a step, below 1.
    pub decay: f64,
}

impl Recipe {
    /// The digest of everything it says: the identity of the run.
    ///
    /// # Panics
    /// Never: a recipe has only text keys.
    pub fn id(&self) -> String {
        // Serialised rather than as written: a default filled in and a default left out are the same run.
        let json = serde_json::to_vec(self).expect("a recipe has only text keys and finite numbers");
        blake3::hash(&json).to_hex().to_string()
    }

    /// The name of the phase that trains the student.
    pub fn learner(&self) -> &str {
        let learner = self.phase.iter().find(|(_, phase)| phase.moves.iter().any(|group| group == "student"));
        learner.map_or("student", |(name, _)| name)
    }

    /// The recipe as a file that loads as it is.
    ///
    /// # Errors
    /// None that a recipe read from TOML could raise.
    pub fn toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| sokd_core::Error::setting("recipe", error.to_string()))
    }

    /// What types alone cannot say, with the path to the fault.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), (String, String)> {
        let fault = |path: &str, problem: &str| Err((path.to_owned(), problem.to_owned()));
        if self.batch == 0 {
            return fault("batch", "a step needs at least one image");
        }
        if self.objective.is_empty() {
            return fault("objective", "nothing is asked: add a term, such as [objective.task]");
        }
        if self.teacher.as_ref().is_some_and(|teacher| teacher.cache) {
            let Augment { resized_crop, rotation, crop, .. } = self.augment;
            if resized_crop.is_some() || rotation != 0.0 || crop != 0 {
                let problem = "images change in every epoch, and the teacher has to look again: set `augment.crop = 0`, \
                               without `rotation` and `resized-crop`, or leave `cache` out";
                return fault("teacher.cache", problem);
            }
            if self.lens.is_some() {
                return fault(
                    "teacher.cache",
                    "a lens shows the teacher other images in every step: leave one of them out",
                );
            }
        }
        if self.phase.is_empty() {
            return fault("phase", "nothing would move: add [phase.student]");
        }
        for (name, phase) in &self.phase {
            if phase.every == 0 {
                return fault(&format!("phase.{name}.every"), "counted from 1, which means every step");
            }
            let learns = phase.moves.iter().any(|group| group == "student");
            if learns && phase.at_rest {
                return fault(&format!("phase.{name}.at-rest"), "a student that learns is not at rest");
            }
            if learns && phase.interlude.is_some() {
                return fault(&format!("phase.{name}.interlude"), "the epochs are the student's own");
            }
            if phase.interlude.is_some() && (phase.every != 1 || phase.epochs.is_some()) {
                let problem = "a phase acts in an interlude or in epochs: leave out `every` and `epochs`";
                return fault(&format!("phase.{name}.interlude"), problem);
            }
            let terms = phase.toward.iter().flat_map(BTreeMap::keys);
            let unknown = |key: &&String| !self.objective.contains_key(key.split('/').next().unwrap_or(key));
            if let Some(term) = terms.into_iter().find(unknown) {
                return fault(
                    &format!("phase.{name}.toward.{term}"),
                    "the objective has no term of that name",
                );
            }
        }
        Ok(())
    }
}
