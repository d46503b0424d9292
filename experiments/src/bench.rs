//! Work to be timed, through the same engine as any run: a training step, a teacher's inference, a step of distillation or of a
//! recipe, the batches of an epoch.

use crate::assemble::{Parts, assemble};
use crate::cli::Session;
use crate::log::captured;
use crate::network::Arithmetic;
use crate::{Model, Recipe};
use candle::{Device, Tensor};
use candle_nn::VarBuilder;
use sokd_core::{
    Backbone, Batch, Batches, Build, BuildCx, DatasetInfo, DistillLoss, Error, Key, LearnSplit, Mode,
    PixelNorm, Result, Step,
};
use sokd_data::{Augment, Images, Loader, Memory};
use sokd_losses::cross_entropy::CrossEntropy;
use sokd_losses::kd::Kd;
use sokd_nn::{Ema, Moment, OptimSpec, Params, Sgd, with_winograd};
use sokd_train::{Distiller, Hand, Observer, Phase, Schedule, Shown, Steps, Tally, TermOf};
use std::sync::Arc;

/// What is timed, on noise in 100 classes.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// What is done.
    pub what: What,
    /// A network; or a teacher, and a student that learns from it.
    pub networks: &'a [Model],
    /// Images in a batch.
    pub batch: usize,
    /// Pixels along a side of an image.
    pub size: usize,
    /// How a student computes.
    pub arithmetic: Arithmetic,
    /// Where.
    pub device: &'a Device,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A training step: forward, backward, and SGD with momentum and weight decay.
    Step,
    /// What a teacher says of a batch, by Winograd where that is faster.
    Inference,
    /// All batches of an epoch, cropped and mirrored.
    Images,
}

/// Does the work once.
pub type Work = Box<dyn FnMut() -> Result<()>>;

const CLASSES: usize = 100;

/// Images in an epoch.
pub const EPOCH: usize = 50_000;

const PIXELS: PixelNorm = PixelNorm { mean: [0.5, 0.45, 0.4], std: [0.2, 0.25, 0.3] };

impl Task<'_> {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match (self.what, self.networks) {
            (What::Images, _) => "batches of an epoch",
            (What::Inference, _) => "inference",
            (What::Step, [_]) => "training step",
            (What::Step, _) => "step of distillation",
        }
    }

    /// Images that it sees in doing the work once.
    pub fn sees(&self) -> usize {
        if self.what == What::Images { EPOCH } else { self.batch }
    }

    /// Makes it ready.
    ///
    /// # Errors
    /// For networks that are not one or two, and for inference of two.
    pub fn work(&self) -> Result<Work> {
        match (self.what, self.networks) {
            (What::Images, _) => self.epoch(),
            (What::Step, [student]) => alone(self.student(student)?, None, self.images()?),
            (What::Step, [teacher, student]) => {
                alone(self.student(student)?, Some(self.teacher(teacher)?), self.images()?)
            }
            (What::Inference, [network]) => {
                let (net, batch) = (self.teacher(network)?, self.images()?);
                Ok(Box::new(move || {
                    net.forward(&batch.images, Mode::Eval)?;
                    Ok(())
                }))
            }
            (_, networks) => {
                let count = networks.len();
                let problem = format!(
                    "{count} networks: one is timed alone, two as teacher and student in a training step"
                );
                Err(Error::setting("NETWORK", problem))
            }
        }
    }

    /// The way of every image of CIFAR into a batch, by this thread alone.
    fn epoch(&self) -> Result<Work> {
        let mut images = Images::of_size([32, 32]);
        images.labels = (0..EPOCH).map(|row| (row % CLASSES) as u32).collect();
        images.pixels = (0..EPOCH * images.stride()).map(|at| (at % 251) as u8).collect();
        let data = Memory::new("noise", classes(), PIXELS, images.clone(), images)?;
        let loader =
            Loader::new(Arc::new(data), LearnSplit::Train, self.batch, Augment::default(), Key::new(0))?;
        let (loader, mut epoch) = (loader.with_threads(0).on(self.device)?, 0);
        Ok(Box::new(move || {
            epoch += 1;
            loader.epoch(epoch, 0).try_for_each(|batch| batch.map(drop))
        }))
    }

    fn images(&self) -> Result<Batch> {
        let (mut stream, count, side) = (Key::new(0).stream(), self.batch, self.size);
        let pixels: Vec<f32> = (0..count * side * side * 3).map(|_| stream.uniform() as f32).collect();
        let labels: Vec<u32> = (0..count).map(|_| stream.below(CLASSES as u32)).collect();
        let batch = Batch {
            images: Tensor::from_vec(pixels, (count, side, side, 3), &Device::Cpu)?,
            labels: Tensor::new(labels, &Device::Cpu)?,
            rows: Tensor::arange(0, count as u32, &Device::Cpu)?,
        };
        batch.to_device(self.device)
    }

    fn student(&self, model: &Model) -> Result<(Box<dyn Backbone>, Params)> {
        self.build(model, self.arithmetic, |params| params.builder(self.device).pp("student"))
    }

    fn teacher(&self, model: &Model) -> Result<Box<dyn Backbone>> {
        let arithmetic = Arithmetic { winograd: true, ..self.arithmetic };
        Ok(self.build(model, arithmetic, |params| params.frozen(self.device))?.0)
    }

    /// A network and its weights, drawn.
    fn build(
        &self,
        model: &Model,
        Arithmetic { winograd, precision }: Arithmetic,
        vars: impl FnOnce(&Params) -> VarBuilder<'static>,
    ) -> Result<(Box<dyn Backbone>, Params)> {
        let data = DatasetInfo {
            name: "noise".into(),
            classes: classes(),
            size: [self.size; 2],
            pixels: PIXELS,
            train: 0,
            search: 0,
            test: 0,
        };
        let params = Params::new(Key::new(0));
        let cx = BuildCx::alone(vars(&params), &data);
        let net = with_winograd(winograd, || model.build(&cx))?;
        Ok((precision.of(net), params))
    }
}

fn classes() -> Vec<String> {
    (0..CLASSES).map(|class| class.to_string()).collect()
}

/// A step under the published recipe's optimiser.
fn alone(
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
    let optimizer = OptimSpec::Sgd(sgd).build(params.group("student"))?;
    let phase = Phase { epochs: 0..1, ..Phase::new("student", optimizer) };
    let now = Moment { epoch: 0, step: 0, steps: 1, epochs: 1 };
    Ok(steps(
        Distiller { student, teacher, lens: None, terms },
        (vec![phase], params),
        (batch, None),
        (now, Key::new(0)),
    ))
}

/// A step of a recipe's epoch, and of what searches in passes of its own before that epoch (TST) a step too; on the same images
/// each time. With the name of the teacher, if there is one, and of the student, and the height and width of an image.
///
/// # Errors
/// Whatever the recipe needs and does not find; an epoch that it does not have.
pub fn of_recipe(
    recipe: &Recipe,
    epoch: usize,
    session: &Session,
) -> crate::Result<(Vec<String>, [usize; 2], Work)> {
    if epoch >= recipe.epochs {
        let problem = format!("epoch {epoch}, counted from 0, of a recipe that has {}", recipe.epochs);
        return Err(Error::setting("--epoch", problem).into());
    }
    let Parts { images, params, distiller, mut phases, teacher, student, info, .. } =
        assemble(recipe, session)?;
    for phase in &mut phases {
        if phase.interlude.take_if(|passes| passes.before.contains(&epoch)).is_some() {
            phase.epochs = epoch..epoch + 1;
        }
    }
    let first = |batches: &dyn Batches| {
        let none = || Error::setting("data", "there is no image for a batch");
        batches.epoch(epoch, 0).next().ok_or_else(none)?
    };
    let batches = (first(images.train.as_ref())?, images.search.as_deref().map(first).transpose()?);
    let now = Moment { epoch, step: 0, steps: images.train.steps(), epochs: recipe.epochs };
    let mut step = steps(distiller, (phases, params.clone()), batches, (now, Key::new(recipe.seed)));
    let ema = recipe.ema.map(|ema| Ema::new(&params, "student", ema.decay)).transpose()?;
    let names = teacher.map(|teaching| teaching.network.model).into_iter().chain([student.model]);
    Ok((
        names.collect(),
        info.size,
        Box::new(move || {
            step()?;
            ema.as_ref().map_or(Ok(()), Ema::update)
        }),
    ))
}

/// One step after another on the same images: those to learn from, and those held out, where a phase asks for them.
fn steps(
    distiller: Distiller,
    (mut phases, params): (Vec<Phase>, Params),
    (batch, held_out): (Batch, Option<Batch>),
    (now, key): (Moment, Key),
) -> Work {
    let (mut index, mut steps, mut tally) = (0, Steps::new(params), Tally::default());
    let mut watch: [Box<dyn Observer>; 1] = [Box::new(Told)];
    Box::new(move || {
        // A teacher is asked once of what it is shown.
        let search = held_out.clone().map(Shown::new);
        let hand = Hand { search, ..Hand::alone(Shown::new(batch.clone())) };
        let at = Step { epoch: now.epoch, index, ..Step::first(key) };
        steps.take(&distiller, &mut phases, &hand, (at, now), &mut tally, &mut watch)?;
        index += 1;
        Ok(())
    })
}

/// Whether steps go on as a CUDA graph, for the log.
struct Told;

impl Observer for Told {
    fn captured(&mut self, phase: &str, outcome: std::result::Result<(), &Error>) -> Result<()> {
        tracing::info!(target: "sokd", "{}", captured(phase, outcome));
        Ok(())
    }
}
