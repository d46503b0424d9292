//! Contrastive representation distillation (Tian et al., 2020).

mod memory;
pub mod nce;

use crate::functional::unit;
use candle::Tensor;
use candle_nn::VarBuilder;
use memory::Memory;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, DistillLoss, Error, Mode, Pair, Result, Step, Terms};
use sokd_nn::{Linear, init};

/// Whether an embedding of one network and one of the other are of the same image, told among thousands of images of
/// other classes.
///
/// Both embeddings are linear and learned with the student. What each network said of every training image when it
/// saw it last is remembered in two memories, which are saved with the weights: 4 bytes × `width` × training images,
/// twice. Only a student in [`Mode::Train`] teaches them.
///
/// # Formula
/// ```text
/// crd     = s(u, memory of the teacher's v) + s(v, memory of the student's u)          u, v: unit embeddings
/// s(a, B) = −log h(a, b⁺) − Σ_m log(1 − h(a, b⁻))     b⁺ the example's own row, b⁻ of other classes
/// h(a, b) = e / (e + m / N)                           e = exp(a·b / τ) / Z, m negatives, N training images
/// ```
///
/// # Source
/// Tian et al., 2020 (arXiv:1910.10699), in the form and with the defaults of RepDistiller: the embeddings of both
/// networks as anchors, normalisers fixed by the first batch, gradients through anchors only.
/// Ours: negatives come from a [`sokd_core::Key`], for each example and step, so that a resumed run draws the same.
/// Which class an image has is known from the first batch that shows it. Until then its memory is the noise that it
/// was drawn as, which is of no class, and a negative for all: from the second epoch on, draws are the released code's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Crd {
    /// Width of the embeddings.
    pub width: usize,
    /// Negatives of an example, drawn without repetition where the other classes have as many images.
    pub negatives: usize,
    /// What products of embeddings are divided by.
    pub temperature: f64,
    /// How much of a memory stays when its image is seen again.
    pub momentum: f64,
    /// What counts as the same.
    pub mode: Positive,
}

/// What an anchor is to be told from the negatives by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Positive {
    /// The same image.
    #[default]
    Exact,
    /// An image of the same class, drawn anew at each step.
    Relax,
}

impl Default for Crd {
    fn default() -> Self {
        Self { width: 128, negatives: 16384, temperature: 0.07, momentum: 0.5, mode: Positive::Exact }
    }
}

impl Crd {
    fn check(&self) -> Result<()> {
        let wrong = |what: &str, problem: String| Err(Error::setting(format!("crd.{what}"), problem));
        if self.width == 0 || self.negatives == 0 {
            return wrong("negatives", "neither they nor the width of an embedding can be 0".into());
        }
        if self.temperature.is_nan() || self.temperature <= 0.0 {
            return wrong("temperature", format!("{} is not above 0", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return wrong("momentum", format!("{} is not between 0 and 1", self.momentum));
        }
        Ok(())
    }
}

/// The steps between two looks at whether a GPU was shown what it should not have been.
const LOOK: u64 = 64;

/// A [`Crd`] with its embeddings and what it remembers.
struct Contrast {
    spec: Crd,
    student: Linear,
    teacher: Linear,
    memory: Memory,
}

impl Build<dyn DistillLoss> for Crd {
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        self.check()?;
        let (student, teacher) = (cx.student("crd")?.features, cx.teacher("crd")?.features);
        let images = cx.data("crd")?.train;
        let vars = cx.vars.pp("adapter.crd");
        let embedding = |from: usize, vars: VarBuilder<'_>| {
            let draw = init::kaiming_uniform(from);
            Linear::new(from, self.width, draw, Some(draw), vars)
        };
        Ok(Box::new(Contrast {
            spec: *self,
            student: embedding(student, vars.pp("student"))?,
            teacher: embedding(teacher, vars.pp("teacher"))?,
            memory: Memory::new(images, self.width, &vars)?,
        }))
    }
}

impl DistillLoss for Contrast {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        let student = unit(&self.student.forward(&pair.student.out.pooled)?)?;
        let teacher = unit(&self.teacher.forward(&pair.teacher("crd")?.out.pooled)?)?;
        if !at.drawn {
            self.draw(at)?;
        }
        let learns = pair.student.mode == Mode::Train;
        let rows = self.memory.rows(pair, learns)?;
        let picks = self.memory.picks(&rows, &pair.labels, &self.spec)?;
        // Each network's embeddings are compared with what the other has said.
        let against = |anchors: &Tensor, bank: &Tensor, known: &Tensor| {
            nce::contrast(anchors, bank, &picks, self.spec.temperature, known)
        };
        let [of_student, of_teacher] = self.memory.normalisers()?;
        let (from_student, of_student) = against(&student, &self.memory.teacher, &of_student)?;
        let (from_teacher, of_teacher) = against(&teacher, &self.memory.student, &of_teacher)?;
        if learns {
            self.memory.learn(&rows, [&student, &teacher], self.spec.momentum)?;
            self.memory.keep_normalisers(&[of_student, of_teacher])?;
        }
        Ok(Terms::one("crd", (from_student + from_teacher)?))
    }

    fn draw(&self, at: &Step) -> Result<()> {
        let now = at.index.is_power_of_two() || at.index.is_multiple_of(LOOK);
        self.memory.lay(at.key.fold("crd"), now)
    }
}
