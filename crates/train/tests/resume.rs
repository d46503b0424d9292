//! Two epochs are one, a resume and one more; and any number of steps, a stop, a resume and the rest; bit for bit.

mod small;

use sokd_core::{Batch, Batches, Error, Result};
use sokd_train::{
    Checkpoint, Checkpoints, JsonLines, Observer, Outcome, Progress, StepReport, Stop, Tensors, Training,
    fit, metrics,
};
use std::path::Path;
use std::sync::atomic::Ordering;

/// What happens once a step of some index is done.
#[derive(Clone, Copy)]
enum Event {
    Stop(u64),
    /// A wish to save, and a crash some steps later.
    SaveThenCrash(u64, u64),
}

struct Fate(Event, Stop);

impl Observer for Fate {
    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        match self.0 {
            Event::Stop(step) if report.at.index >= step => self.1.now.store(true, Ordering::Relaxed),
            Event::SaveThenCrash(step, _) if report.at.index == step => {
                self.1.save.store(true, Ordering::Relaxed);
            }
            Event::SaveThenCrash(_, crash) if report.at.index == crash => {
                return Err(Error::setting("power", "someone pulled the plug"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Trains in `dir` from whatever is saved there.
fn train(dir: &Path, epochs: usize, event: Option<Event>) -> Result<(Outcome, Checkpoint)> {
    let images = small::Images::new();
    let mut run = images.run()?;
    run.epochs = epochs;
    train_it(dir, &mut run, &Stop::default(), event)
}

fn train_it(
    dir: &Path,
    run: &mut Training<'_>,
    stop: &Stop,
    event: Option<Event>,
) -> Result<(Outcome, Checkpoint)> {
    let checkpoints = Checkpoints::open(&dir.join("checkpoints"), "recipe")?;
    let progress = match checkpoints.load()? {
        Some(found) => run.restore(&found.checkpoint)?,
        None => Progress::default(),
    };
    let mut watch: Vec<Box<dyn Observer>> =
        vec![Box::new(JsonLines::new(&dir.join("metrics.jsonl"), Some(1)))];
    if let Some(event) = event {
        watch.push(Box::new(Fate(event, stop.clone())));
    }
    let outcome = fit(run, progress, Some(&checkpoints), stop, &mut watch)?;
    let (Outcome::Finished(at) | Outcome::Stopped(at)) = &outcome;
    let now = run.checkpoint(at)?;
    Ok((outcome, now))
}

fn bits(tensors: &Tensors) -> Vec<(String, Vec<u8>)> {
    let bytes = |tensor: &candle::Tensor| {
        let tensor = tensor.flatten_all().expect("a tensor");
        match tensor.dtype() {
            candle::DType::I64 => {
                tensor.to_vec1::<i64>().expect("numbers").into_iter().flat_map(i64::to_le_bytes).collect()
            }
            _ => tensor.to_vec1::<f32>().expect("numbers").into_iter().flat_map(f32::to_le_bytes).collect(),
        }
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), bytes(tensor))).collect()
}

fn timeless(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.progress = checkpoint.progress.timeless();
    checkpoint
}

fn same(one: Checkpoint, other: Checkpoint) {
    let (one, other) = (timeless(one), timeless(other));
    assert_eq!(one.progress, other.progress);
    assert!(!one.weights.is_empty() && one.optimizers.len() == 2);
    assert_eq!(bits(&one.weights), bits(&other.weights));
    for (phase, state) in &one.optimizers {
        assert_eq!(bits(state), bits(&other.optimizers[phase]), "{phase}");
    }
    assert_eq!(bits(&one.ema.expect("an average")), bits(&other.ema.expect("an average")));
}

fn lines(dir: &Path) -> Result<Vec<String>> {
    let mut lines = metrics::read(&dir.join("metrics.jsonl"))?;
    for line in &mut lines {
        line.remove("seconds");
    }
    Ok(lines.iter().map(|line| serde_json::to_string(line).expect("plain values")).collect())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for files")
}

#[test]
fn the_small_run_learns() -> Result<()> {
    let dir = folder();
    let (outcome, _) = train(dir.path(), 2, None)?;
    let Outcome::Finished(at) = outcome else { panic!("nobody stopped it") };
    assert_eq!((at.epoch, at.step, at.steps, at.searched), (2, 0, 8, 3));
    assert_eq!(at.images, 2 * 20 + 4 + 4 + 1);
    assert_eq!(at.latest.keys().collect::<Vec<_>>(), ["ema-test", "search", "test"]);
    assert!(at.latest["test"].agreement.is_some());

    let lines = metrics::read(&dir.path().join("metrics.jsonl"))?;
    // A line for each step of the student, each look and each epoch.
    assert_eq!(lines.len(), 8 + 3 + 2);
    let epochs: Vec<_> = lines.iter().filter(|line| line["event"] == "epoch").collect();
    let number = |epoch: usize, name: &str| epochs[epoch][name].as_f64().expect("a number");
    assert!(number(1, "train/student/task/likelihood") < number(0, "train/student/task/likelihood"));
    assert!((number(1, "train/student/lr") - 0.05).abs() < 1e-12);
    let sum = number(1, "train/student/task/likelihood") + 0.5 * number(1, "train/student/distill/distance");
    assert!((number(1, "train/student/loss") - sum).abs() < 1e-9, "weights stand in the loss alone");
    assert!(!epochs[1].contains_key("train/look/distill/distance"), "the look asks for the task alone");
    Ok(())
}

#[test]
fn one_epoch_and_one_more_are_two() -> Result<()> {
    let (whole, parted) = (folder(), folder());
    let (_, expected) = train(whole.path(), 2, None)?;
    train(parted.path(), 1, None)?;
    let (outcome, got) = train(parted.path(), 2, None)?;
    assert!(matches!(outcome, Outcome::Finished(_)));
    same(expected, got);
    assert_eq!(lines(whole.path())?, lines(parted.path())?);
    Ok(())
}

#[test]
fn a_stop_after_any_step_changes_nothing() -> Result<()> {
    let whole = folder();
    let (_, expected) = train(whole.path(), 2, None)?;
    for step in 0..8 {
        let parted = folder();
        let (outcome, _) = train(parted.path(), 2, Some(Event::Stop(step)))?;
        let Outcome::Stopped(at) = outcome else { panic!("asked to stop after step {step}") };
        assert_eq!((at.steps, at.epoch), (step + 1, step as usize / 4));
        let (_, got) = train(parted.path(), 2, None)?;
        same(expected.clone(), got);
        assert_eq!(lines(whole.path())?, lines(parted.path())?, "stopped after step {step}");
    }
    Ok(())
}

#[test]
fn a_crash_loses_what_came_after_the_last_save_and_nothing_else() -> Result<()> {
    let whole = folder();
    let (_, expected) = train(whole.path(), 2, None)?;
    for (save, crash) in [(1, 2), (2, 5), (5, 7)] {
        let parted = folder();
        let error = train(parted.path(), 2, Some(Event::SaveThenCrash(save, crash))).expect_err("it crashed");
        assert!(error.to_string().contains("plug"), "{error}");
        let (_, got) = train(parted.path(), 2, None)?;
        same(expected.clone(), got);
        assert_eq!(lines(whole.path())?, lines(parted.path())?);
    }
    Ok(())
}

/// Images that ask for a stop when the second batch is taken.
struct Interrupting<'a>(&'a dyn Batches, Stop);

impl Batches for Interrupting<'_> {
    fn steps(&self) -> usize {
        self.0.steps()
    }

    fn examples(&self) -> usize {
        self.0.examples()
    }

    fn epoch(&self, epoch: usize, from: usize) -> Box<dyn Iterator<Item = Result<Batch>> + Send + '_> {
        Box::new(self.0.epoch(epoch, from).inspect(|_| self.1.now.store(true, Ordering::Relaxed)))
    }
}

#[test]
fn a_stop_while_the_student_is_judged_changes_nothing() -> Result<()> {
    let (whole, parted) = (folder(), folder());
    let (_, expected) = train(whole.path(), 2, None)?;

    let (images, stop) = (small::Images::new(), Stop::default());
    let interrupting = Interrupting(&images.held_out, stop.clone());
    let mut run = images.run()?;
    run.exams[1].batches = &interrupting;
    let (outcome, _) = train_it(parted.path(), &mut run, &stop, None)?;
    let Outcome::Stopped(at) = outcome else { panic!("asked to stop") };
    assert_eq!((at.epoch, at.step), (0, 4));

    let (_, got) = train(parted.path(), 2, None)?;
    same(expected, got);
    assert_eq!(lines(whole.path())?, lines(parted.path())?);
    Ok(())
}

#[test]
fn a_run_may_end_within_an_epoch() -> Result<()> {
    let (dir, images) = (folder(), small::Images::new());
    let mut run = images.run()?;
    (run.epochs, run.steps) = (240, Some(6));
    let (outcome, _) = train_it(dir.path(), &mut run, &Stop::default(), None)?;
    let Outcome::Finished(at) = outcome else { panic!("nobody stopped it") };
    assert_eq!((at.steps, at.epoch), (6, 2));
    assert_eq!(at.latest.len(), 3);
    Ok(())
}

#[test]
fn a_finished_run_is_finished_when_asked_again() -> Result<()> {
    let dir = folder();
    let (first, _) = train(dir.path(), 2, None)?;
    let (again, _) = train(dir.path(), 2, None)?;
    assert_eq!(first, again);
    assert_eq!(lines(dir.path())?.len(), 13);
    Ok(())
}
