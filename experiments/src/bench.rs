//! Work to be timed, through the same engine as any run: a training step, a teacher's inference, a step of distillation.

use crate::Model;
use candle::{Device, Tensor};
use candle_nn::VarBuilder;
use sokd_core::{
    Backbone, Batch, Build, BuildCx, DatasetInfo, DistillLoss, Error, Key, Mode, PixelNorm, Result, Step,
};
use sokd_losses::cross_entropy::CrossEntropy;
use sokd_losses::kd::Kd;
use sokd_nn::{LrSchedule, Moment, OptimSpec, Params, Sgd, with_winograd};
use sokd_train::{Descend, Distiller, Hand, Phase, Schedule, Shown, Tally, TermOf, step};

/// What is timed, on noise in the sizes of CIFAR-100.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// A network; or a teacher, and a student that learns from it.
    pub networks: &'a [Model],
    /// What a teacher says of a batch, by Winograd where that is faster, instead of a training step: forward, backward, and SGD with
    /// momentum and weight decay.
    pub inference: bool,
    /// Images.
    pub batch: usize,
    /// Whether a student goes by Winograd.
    pub winograd: bool,
    /// Where.
    pub device: &'a Device,
}

/// Does the work once.
pub type Work = Box<dyn FnMut() -> Result<()>>;

const CLASSES: usize = 100;

impl Task<'_> {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match (self.networks, self.inference) {
            ([_], false) => "training step",
            ([_], true) => "inference",
            _ => "step of distillation",
        }
    }

    /// Makes it ready.
    ///
    /// # Errors
    /// For networks that are not one or two, and for inference of two.
    pub fn work(&self) -> Result<Work> {
        let batch = self.images()?;
        match (self.networks, self.inference) {
            ([student], false) => train(self.student(student)?, None, batch),
            ([teacher, student], false) => train(self.student(student)?, Some(self.teacher(teacher)?), batch),
            ([network], true) => {
                let net = self.teacher(network)?;
                Ok(Box::new(move || {
                    net.forward(&batch.images, Mode::Eval)?;
                    Ok(())
                }))
            }
            _ => {
                let count = self.networks.len();
                let problem = format!(
                    "{count} networks: one is timed alone, two as teacher and student in a training step"
                );
                Err(Error::setting("NETWORK", problem))
            }
        }
    }

    fn images(&self) -> Result<Batch> {
        let (mut stream, count) = (Key::new(0).stream(), self.batch);
        let pixels: Vec<f32> = (0..count * 32 * 32 * 3).map(|_| stream.uniform() as f32).collect();
        let labels: Vec<u32> = (0..count).map(|_| stream.below(CLASSES as u32)).collect();
        let batch = Batch {
            images: Tensor::from_vec(pixels, (count, 32, 32, 3), &Device::Cpu)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            rows: Tensor::arange(0, count as u32, &Device::Cpu)?,
        };
        batch.to_device(self.device)
    }

    fn student(&self, model: &Model) -> Result<(Box<dyn Backbone>, Params)> {
        with_winograd(self.winograd, || build(model, |params| params.builder(self.device).pp("student")))
    }

    fn teacher(&self, model: &Model) -> Result<Box<dyn Backbone>> {
        Ok(with_winograd(true, || build(model, |params| params.frozen(self.device)))?.0)
    }
}

/// A network and its weights, drawn.
fn build(
    model: &Model,
    vars: impl FnOnce(&Params) -> VarBuilder<'static>,
) -> Result<(Box<dyn Backbone>, Params)> {
    let data = DatasetInfo {
        name: "noise".into(),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        size: [32, 32],
        pixels: PixelNorm { mean: [0.5, 0.45, 0.4], std: [0.2, 0.25, 0.3] },
        train: 0,
        search: 0,
        test: 0,
    };
    let params = Params::new(Key::new(0));
    let net = model.build(&BuildCx::alone(vars(&params), &data))?;
    Ok((net, params))
}

/// A step under the published recipe's optimiser.
fn train(
    (student, params): (Box<dyn Backbone>, Params),
    teacher: Option<Box<dyn Backbone>>,
    batch: Batch,
) -> Result<Work> {
    let term = |name: &str, loss: Box<dyn DistillLoss>| TermOf {
        name: name.into(),
        weight: Schedule::default(),
        loss,
    };
    let mut terms = vec![term("task", Box::<CrossEntropy>::default())];
    if teacher.is_some() {
        terms.push(term("distill", Box::<Kd>::default()));
    }
    let sgd = Sgd { momentum: 0.9, weight_decay: 5e-4, ..Sgd::default() };
    let phase = Phase {
        name: "student".into(),
        toward: None,
        split: sokd_core::LearnSplit::Train,
        mode: Mode::Train,
        every: 1,
        epochs: 0..1,
        interlude: None,
        update: Box::new(Descend {}),
        clip: None,
        optimizer: OptimSpec::Sgd(sgd).build(params.group("student"))?,
        lr: LrSchedule::default(),
    };
    let (distiller, mut phases) = (Distiller { student, teacher, lens: None, terms }, vec![phase]);
    let mut index = 0;
    Ok(Box::new(move || {
        // A teacher is asked once of what it is shown.
        let hand = Hand::alone(Shown::new(batch.clone()));
        let at = Step { index, ..Step::first(Key::new(0)) };
        let now = Moment { epoch: 0, step: 0, steps: 1, epochs: 1 };
        step(&distiller, &mut phases, &hand, (at, now), &mut Tally::default(), &mut [])?;
        index += 1;
        Ok(())
    }))
}
