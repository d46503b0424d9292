//! Student-friendly knowledge distillation (Yuan, Lang and Quan, 2024), as far as its abstract tells.

mod simplifier;

pub use simplifier::{Simple, Simplifier};

use candle::{D, DType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, Error, Pair, Refiner, Result, Step, Terms};
use sokd_losses::functional::{cross_entropy, entropy, kl, soften};

/// SKD (reference design after the abstract): the teacher's logits, softened and then simplified by a small network that
/// learns together with the student, before a loss reads them.
///
/// The loss itself stays what it is: any that reads the teacher's logits. The simplifier's weights, under
/// `adapter.skd.*`, learn by that loss, and by two terms of the plug-in's own that count nothing unless asked for:
/// `anchor`, how far the simplified prediction is from the softened one, and `task`, its cross-entropy.
///
/// # Formula
/// ```text
/// S  = Z / τ                                          Z: the teacher's logits of a batch, examples × classes
/// A  = softmax((S Qᵀ)(S Kᵀ)ᵀ / √d)
/// Z′ = τ (S + A (S Vᵀ) Oᵀ)                            what the host reads in place of Z; O begins at zero
/// ```
///
/// # Source
/// Yuan, Lang and Quan, 2024 (arXiv:2305.10893), of which the abstract alone is known to us: a temperature on the
/// teacher's logits, then a simplifier with attention, trained with the student by an unchanged distillation loss. Its
/// equations are not public; every setting but the temperature's existence is ours, and the book's page on SKD says why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Skd {
    /// What the teacher's logits are divided by, the equations' τ: its host's own temperature. 4 as KD's: ours.
    pub temperature: f64,
    /// What the host divides the student's logits by, where that is another: the host then compares with the
    /// simplified prediction at this temperature. The same: ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub student_temperature: Option<f64>,
    /// What the simplifier reads. Logits: ours.
    pub softening: Softening,
    /// What the simplifier is.
    pub simplifier: Form,
    /// What attends to what. The examples of a batch to each other: ours.
    pub axis: Axis,
    /// Whether examples that a lens shows several times attend to their own showing alone. They do: ours.
    pub showings_apart: bool,
    /// Heads of the attention, which share its width. 1: ours.
    pub heads: usize,
    /// Width of the simplifier, the equations' d. As many as classes: ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Whether the softened logits are added to what the simplifier says. They are: ours, so that it begins as KD.
    pub residual: bool,
    /// A layer norm over the classes. None: ours.
    pub norm: Norm,
    /// How the simplifier's last layer is drawn. Zeros: ours, so that no noise is a target.
    pub out_init: OutInit,
    /// Whether the host's gradient stops before the simplifier, which then learns by `anchor` and `task` alone. It does
    /// not: the abstract has it trained by the distillation loss.
    pub detach: bool,
    /// Epochs in which the teacher's logits stay as they are. 0: ours.
    pub warmup_epochs: usize,
    /// What `anchor` counts for, KL(softened ‖ simplified) at the student's temperature. 0: ours, after the abstract,
    /// which trains by the distillation loss alone; then student and simplifier may meet far from the teacher.
    pub anchor: f64,
    /// What `task` counts for, the cross-entropy of the simplified prediction. 0: ours.
    pub task: f64,
}

impl Default for Skd {
    fn default() -> Self {
        Self {
            temperature: 4.0,
            student_temperature: None,
            softening: Softening::Logits,
            simplifier: Form::Attention,
            axis: Axis::Batch,
            showings_apart: true,
            heads: 1,
            width: None,
            residual: true,
            norm: Norm::None,
            out_init: OutInit::Zero,
            detach: false,
            warmup_epochs: 0,
            anchor: 0.0,
            task: 0.0,
        }
    }
}

/// What the simplifier reads of the teacher's logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Softening {
    /// The logits, divided by the temperature.
    #[default]
    Logits,
    /// The softmax of those. What is added to its answer are the softened logits all the same.
    Probabilities,
    /// The logits as they are; its answer is in their units.
    None,
}

/// What a simplifier is. All but the first are without biases, and their last layer goes back to the classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Nothing: the bare host.
    Identity,
    /// Two linear layers: an attention in which each attends to itself alone.
    Linear,
    /// The same two with a ReLU between them.
    Mlp,
    /// Values, mixed as queries and keys say, and an output layer.
    #[default]
    Attention,
}

/// What attends to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// The examples of a batch, each with its classes' scores.
    #[default]
    Batch,
    /// The classes of an example, each with its score, which learned embeddings lift to the width.
    Class,
}

/// Where a layer norm over the classes stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Nowhere.
    #[default]
    None,
    /// Before the simplifier, which alone sees it.
    Pre,
    /// Behind the sum of what it says and what it was given: the host is no longer KD at the start.
    Post,
}

/// How the simplifier's last layer is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutInit {
    /// All zeros.
    #[default]
    Zero,
    /// As the others, uniform after Glorot and Bengio.
    Xavier,
}

impl Skd {
    /// The simplifier with its weights. Two in one recipe share them.
    ///
    /// # Errors
    /// [`Error::Setting`] when a setting cannot work.
    pub fn simplifier(&self, cx: &BuildCx<'_>) -> Result<Simplifier> {
        let fault = |name: &str, problem: String| Err(Error::setting(format!("skd.{name}"), problem));
        for (name, temperature) in
            [("temperature", self.temperature), ("student-temperature", self.compared_at())]
        {
            if temperature.is_nan() || temperature <= 0.0 {
                return fault(name, format!("{temperature} is not above 0"));
            }
        }
        let classes = cx.teacher("skd")?.classes;
        let width = self.width.unwrap_or(classes);
        if width == 0 || self.heads == 0 || !width.is_multiple_of(self.heads) {
            return fault("heads", format!("{} do not divide a width of {width}", self.heads));
        }
        if self.detach && self.simplifier != Form::Identity && self.anchor == 0.0 && self.task == 0.0 {
            let problem = "nothing would train the simplifier: give `anchor` or `task` a weight";
            return fault("detach", problem.to_owned());
        }
        Simplifier::new(self, classes, width, &cx.vars.pp("adapter.skd"))
    }

    /// The temperature at which the host compares.
    fn compared_at(&self) -> f64 {
        self.student_temperature.unwrap_or(self.temperature)
    }
}

impl Build<dyn Refiner> for Skd {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn Refiner>> {
        Ok(Box::new(Friendly { simplifier: self.simplifier(cx)?, skd: self.clone() }))
    }
}

/// A [`Skd`] with its simplifier.
struct Friendly {
    skd: Skd,
    simplifier: Simplifier,
}

impl Refiner for Friendly {
    fn refine<'a>(&self, pair: Pair<'a>, at: &Step) -> Result<(Pair<'a>, Terms)> {
        let mut teacher = pair.teacher("skd")?.clone();
        let plain = teacher.out.logits;
        let Simple { logits, attention } = if at.epoch < self.skd.warmup_epochs {
            self.simplifier.nothing(&plain)?
        } else {
            let showings = if self.skd.showings_apart { pair.showings } else { 1 };
            self.simplifier.forward(&plain, showings)?
        };
        let mut terms = self.told(&plain, &logits, &pair.labels)?;
        if let Some(attention) = attention {
            terms = terms.reading("diagonal", &diagonal(&attention)?);
        }
        teacher.out.logits = if self.skd.detach { logits.detach() } else { logits };
        Ok((Pair { teacher: Some(teacher), ..pair }, terms))
    }
}

impl Friendly {
    /// The two terms, and what shows how far the simplified teacher has left its own word.
    fn told(&self, plain: &Tensor, simple: &Tensor, labels: &Tensor) -> Result<Terms> {
        let softened = soften(plain, self.skd.temperature)?;
        let simplified = soften(simple, self.skd.compared_at())?;
        let value = |value: Tensor| -> Result<Tensor> { Ok(value.to_dtype(plain.dtype())?) };
        let guess = simple.argmax(D::Minus1)?;
        let right = |truth: &Tensor| -> Result<Tensor> {
            Ok(guess.eq(&truth.to_dtype(DType::U32)?)?.to_dtype(plain.dtype())?)
        };
        Ok(Terms::default()
            .with("anchor", self.skd.anchor, value(kl(&softened, &simplified)?)?)
            .with("task", self.skd.task, value(cross_entropy(&simplified, labels, 0.0)?)?)
            .reading("agreement", &right(&plain.argmax(D::Minus1)?)?)
            .reading("accuracy", &right(labels)?)
            .reading("entropy", &value(entropy(&simplified)?)?))
    }
}

/// What each pays to itself, a mean over heads and tokens: `(sets, heads, tokens, tokens)` → `()`.
fn diagonal(attention: &Tensor) -> Result<Tensor> {
    let tokens = attention.dim(D::Minus1)?;
    let eye = Tensor::eye(tokens, attention.dtype(), attention.device())?;
    let kept = attention.detach().broadcast_mul(&eye)?.sum(D::Minus1)?;
    Ok(kept.flatten_all()?.mean(0)?)
}
