//! A recipe in a run directory, from the first step or from where it stood.

use crate::assemble::{Images, Parts, assemble, judged};
use crate::beyond::beyond;
use crate::cli::Session;
use crate::environment::Environment;
use crate::follow::Led;
use crate::kept::Kept;
use crate::pins::{self, Pins};
use crate::predictions::{self, Predictions};
use crate::rundir::{Found, RunDir, State};
use crate::said::{self, Said};
use crate::stopwatch::Stopwatch;
use crate::summary::Summary;
use crate::track::{About, Kind, Tracking};
use crate::{Error, Exit, Recipe, Resolved, Result, signals, student};
use sokd_core::{Backbone, DatasetInfo, Key, Split};
use sokd_nn::{Ema, Params};
use sokd_train::{
    Checkpoints, Distiller, EpochReport, Exam, JsonLines, Observer, Outcome, Phase, Progress, StepReport,
    Stop, Training, fit,
};
use sokd_world::World;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Long epochs are saved in between, so that a killed run loses at most so much.
const SAVE: Duration = Duration::from_mins(5);

/// How a run is run; nothing in it changes what comes out.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Device, threads, voice.
    pub session: &'a Session,
    /// Replaces what stands in the run directory.
    pub force: bool,
    /// How progress lines call this run: `KD, seed 1`.
    pub label: String,
    /// Who is told what it does.
    pub track: &'a [&'static Kind],
    /// Who trains with this process, which leads them.
    pub world: &'a World,
}

/// Does what a recipe says, in a run directory: from the start in a fresh one, from the last checkpoint in one that
/// was left, and not at all in one that holds this very run finished, whose summary it returns.
///
/// # Errors
/// [`Error::Locked`], [`Error::OtherRecipe`], [`Error::OtherData`], [`Error::Stopped`], and whatever its parts meet.
pub fn run(resolved: &Resolved, dir: &Path, options: &Options<'_>) -> Result<Summary> {
    let outcome = lead(resolved, dir, options);
    if let Err(error) = &outcome {
        options.world.leave(&error.to_string());
    }
    outcome
}

fn lead(resolved: &Resolved, dir: &Path, options: &Options<'_>) -> Result<Summary> {
    let mut dir = RunDir::lock(dir)?;
    if !options.force
        && let Found::Finished(summary) = dir.found(resolved)?
    {
        Led::Finished.tell(options.world)?;
        return Ok(*summary);
    }
    // What the Hub's addresses mean now, or meant when the run began. The recipe itself keeps its words, and its name.
    let mut pins = if options.force { Pins::default() } else { Pins::read(dir.path())? };
    let pinned = pins.pin(&resolved.recipe, &options.session.stage)?;
    let pinned = Resolved { recipe: pinned, ..resolved.clone() };
    // Before anything is written or, by force, removed: what cannot be built shall cost no one a finished run.
    let parts = match assemble(&pinned.recipe, options.session) {
        // Whoever looks on from elsewhere shall see that it was tried.
        Err(error) if !options.force => {
            dir.fail(&error);
            return Err(error);
        }
        other => other?,
    };
    if options.force {
        dir.clear()?;
    }
    let digest = options.session.kept.digest(&pinned.recipe.data, &options.session.stage)?;
    Led::run(&pinned.recipe, dir.path(), &digest).tell(options.world)?;
    dir.begins_on(&resolved.recipe.data.name(), &digest)?;
    if !pins.is_empty() {
        dir.write_json(pins::FILE, &pins)?;
    }
    let here = Environment::here(&options.session.device_name);
    let here = Environment { processes: options.world.size(), ..here };
    let environment = dir.describe(resolved, here)?;
    let stop = signals::heed();
    let about = About {
        dir: dir.path().to_owned(),
        label: options.label.clone(),
        resolved: resolved.clone(),
        environment: environment.clone(),
        images: Some(options.session.kept.open(&pinned.recipe.data, &options.session.stage)?),
    };
    let tracking = Tracking::of(options.track, about, dir.log(), &options.session.stage)?;
    let outcome = train(&pinned, parts, &mut dir, options, environment, (&stop, &tracking));
    match &outcome {
        Ok(summary) => dir.stand(State::Finished, summary.steps, None)?,
        Err(Error::Stopped { step, .. }) => {
            dir.stand(State::Stopped, *step, Some((Exit::TryAgain, "it was asked to".into())))?;
        }
        Err(error) => dir.fail(error),
    }
    tracking.end((&outcome).into());
    outcome
}

fn train(
    resolved: &Resolved,
    parts: Parts,
    dir: &mut RunDir,
    options: &Options<'_>,
    environment: Environment,
    (stop, tracking): (&Stop, &Tracking),
) -> Result<Summary> {
    let (recipe, session) = (&resolved.recipe, options.session);
    let stage = &session.stage;
    let checkpoints = Checkpoints::open(&dir.join("checkpoints"), &resolved.id)?;
    let found = checkpoints.load()?;
    if let Some(warning) = found.as_ref().and_then(|found| found.warning.as_ref()) {
        stage.say(warning);
    }
    for line in beyond(recipe) {
        stage.say(&format!("{}: {line}", options.label));
        dir.log().say(&line)?;
    }
    let said = ask_teacher(recipe, &parts, &session.kept, dir)?;
    let guesses = said.as_ref().map(|said| said.guesses.as_slice());

    let Parts { info, params, distiller, phases, images, student, .. } = parts;
    let learner = Learner { params: &params, info: &info, guesses, session };
    let mut training = learner.training(recipe, (distiller, phases), &images, options.world)?;
    let from = match &found {
        Some(found) => training.restore(&found.checkpoint)?,
        None => Progress::default(),
    };
    dir.stand(State::Running, from.steps, None)?;

    let metrics = dir.join("metrics.jsonl");
    let mut watch: Vec<Box<dyn Observer>> = vec![
        Box::new(JsonLines::new(&metrics, None)),
        Box::new(dir.log()),
        Box::new(stage.watch(&options.label, training.work(), recipe.epochs)),
        Box::new(Saver { stop: stop.clone(), saved: Stopwatch::start() }),
        tracking.observer(),
    ];
    let progress = match fit(&mut training, from, Some(&checkpoints), stop, &mut watch)? {
        Outcome::Finished(progress) => progress,
        Outcome::Stopped(progress) => {
            return Err(Error::Stopped { dir: dir.path().to_owned(), step: progress.steps });
        }
    };
    // Before the summary, whose presence says that all is there.
    let of_test = Predictions::ask(learner.net(recipe, &params)?.as_ref(), images.test.as_ref())?;
    dir.write(predictions::FILE, of_test.json()?)?;
    let digest = session.kept.digest(&recipe.data, stage)?;
    let networks = (student, said.as_ref().map(|said| said.taught.clone()));
    let summary = Summary {
        data_blake3: Some(digest),
        ..Summary::of(resolved, &progress, &metrics, networks, environment)?
    };
    student::save(dir, resolved, &params, &info, &summary, &session.device)?;
    // Last, for its presence says that all is there.
    dir.write_json("summary.json", &summary)?;
    Ok(summary)
}

/// Who learns, and by what it is judged.
pub(crate) struct Learner<'a> {
    pub params: &'a Params,
    pub info: &'a DatasetInfo,
    /// What the teacher says of the test images.
    pub guesses: Option<&'a [u32]>,
    pub session: &'a Session,
}

impl Learner<'_> {
    /// A recipe's parts as a run of it.
    pub(crate) fn training<'a>(
        &self,
        recipe: &Recipe,
        (distiller, phases): (Distiller, Vec<Phase>),
        images: &'a Images,
        world: &'a World,
    ) -> Result<Training<'a>> {
        let ema = recipe.ema.map(|ema| Ema::new(self.params, "student", ema.decay)).transpose()?;
        let test = images.test.as_ref();
        let exam = |name: &str, split, net, batches, guesses: Option<&[u32]>| Exam {
            name: name.to_owned(),
            split,
            net,
            batches,
            teacher: guesses.map(<[u32]>::to_vec),
            every: recipe.evaluate.every.max(1),
        };
        let mut exams = vec![exam("test", Split::Test, self.net(recipe, self.params)?, test, self.guesses)];
        if let Some(held_out) = &images.held_out {
            let net = self.net(recipe, self.params)?;
            exams.push(exam("search", Split::Search, net, held_out.as_ref(), None));
        }
        if let Some(ema) = &ema {
            let net = self.net(recipe, ema.params())?;
            exams.push(exam("ema-test", Split::Test, net, test, self.guesses));
        }
        Ok(Training {
            distiller,
            phases,
            params: self.params.clone(),
            ema,
            train: images.train.as_ref(),
            search: images.search.as_deref(),
            exams,
            epochs: recipe.epochs,
            steps: recipe.steps,
            key: Key::new(recipe.seed).fold("steps"),
            world,
        })
    }

    fn net(&self, recipe: &Recipe, params: &Params) -> Result<Box<dyn Backbone>> {
        judged(&recipe.student, params, self.info, &self.session.device)
    }
}

/// What the teacher says of the test images, and how often it is right: as the run directory has it, where the run goes
/// on.
///
/// # Errors
/// [`Error::Unmet`] when that is not what the recipe expects: then images, normalisation or weights are not what they
/// should be, and it is better to know before the first step.
fn ask_teacher(recipe: &Recipe, parts: &Parts, kept: &Kept, dir: &RunDir) -> Result<Option<Arc<Said>>> {
    let (Some(net), Some(teaching), Some(spec)) = (&parts.distiller.teacher, &parts.teacher, &recipe.teacher)
    else {
        return Ok(None);
    };
    let who = teaching.who(net.as_ref(), recipe);
    let ask = || {
        let of = said::digest(&who, parts.images.test.as_ref())?;
        if let Some(said) = Said::kept(dir.path(), &of) {
            // The same weights may have come by another name.
            return Ok(Said { taught: teaching.judged(said.taught.top1), ..said });
        }
        let guesses = sokd_train::predictions(net.as_ref(), parts.images.test.as_ref())?;
        let mut correct = 0;
        let mut seen = guesses.iter();
        for batch in parts.images.test.epoch(0, 0) {
            let labels = batch?.labels.to_vec1::<u32>().map_err(sokd_core::Error::from)?;
            correct += labels.iter().zip(&mut seen).filter(|(label, guess)| label == guess).count();
        }
        let top1 = 100.0 * correct as f64 / guesses.len().max(1) as f64;
        let said = Said { of, taught: teaching.judged(top1), guesses };
        said.share();
        Ok(said)
    };
    let said = kept.ask(&who, ask)?;
    dir.write_json(said::FILE, &*said)?;
    let (name, top1) = (spec.model.label(), said.taught.top1);
    match spec.expect.filter(|_| teaching.sha256.is_some()) {
        Some(expect) if (top1 - expect.top1).abs() > expect.within + 1e-9 => {
            let (wanted, within) = (expect.top1, expect.within);
            Err(Error::Unmet(format!(
                "the teacher {name} has {top1:.2} % on the test images, and {wanted} ± {within} % was expected: \
                 check its weights, its pixel statistics and the data"
            )))
        }
        _ => Ok(Some(said)),
    }
}

/// Asks for a checkpoint now and then.
struct Saver {
    stop: Stop,
    saved: Stopwatch,
}

impl Observer for Saver {
    fn step(&mut self, _: &StepReport<'_>) -> sokd_core::Result<()> {
        if self.saved.elapsed() >= SAVE {
            self.stop.save.store(true, Ordering::Relaxed);
            self.saved = Stopwatch::start();
        }
        Ok(())
    }

    fn epoch(&mut self, _: &EpochReport) -> sokd_core::Result<()> {
        self.saved = Stopwatch::start();
        Ok(())
    }
}
