//! Passes between epochs: when they come, what they move, and that they resume bit for bit.

mod small;

use candle::{Device, Tensor};
use candle_nn::Init;
use sokd_core::{Batch, Lens, Mode, Result, Step, Terms};
use sokd_nn::{LrSchedule, Plateau};
use sokd_train::{
    Checkpoint, Checkpoints, Interlude, JsonLines, Observer, Outcome, PassReport, Progress, StepReport, Stop,
    Tensors, Training, fit, metrics,
};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// A lens that adds what it learned to images, and a little chance: darker images where it steers, and both where not.
struct Tint(Tensor);

impl Lens for Tint {
    fn shows(&self, at: &Step) -> usize {
        if at.focuses { 1 } else { 2 }
    }

    fn look(&self, batch: &Batch, at: &Step) -> Result<(Batch, Terms)> {
        let tint = if at.focuses { self.0.clone() } else { self.0.detach() };
        let chance = at.key.fold("tint").stream().uniform();
        let images = batch.images.broadcast_add(&(tint * (0.5 + chance))?)?;
        let readings = Terms::default().reading("chance", &Tensor::new(chance as f32, &Device::Cpu)?);
        if at.focuses {
            return Ok((Batch { images, ..batch.clone() }, readings));
        }
        let twice = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let batch = Batch {
            images: twice(&images, &batch.images)?,
            labels: twice(&batch.labels, &batch.labels)?,
            rows: twice(&batch.rows, &batch.rows)?,
        };
        Ok((batch, readings))
    }
}

/// The small run behind a lens, whose tint is searched for in two passes before each of its two epochs.
fn run(images: &small::Images) -> Result<Training<'_>> {
    let mut run = images.run()?;
    let tint = run.params.builder(&Device::Cpu).get_with_hints(3, "augment.tint", Init::Const(0.0))?;
    run.distiller.lens = Some(Box::new(Tint(tint)));
    let mut search =
        small::phase("tinting", &run.params, "augment", r#"{ "type": "sgd", "weight-decay": 0.0 }"#)?;
    search.mode = Mode::Eval;
    search.toward = Some([("task".to_owned(), -1.0)].into());
    search.lr = LrSchedule { base: 0.1, ..LrSchedule::default() };
    // Every pass counts as one that rests.
    let plateau = Some(Plateau { fall: 1e9, share: 1e9, gamma: 0.5 });
    search.interlude = Some(Interlude { before: vec![0, 1], passes: 2, plateau });
    run.phases.push(search);
    Ok(run)
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Step { phase: String, index: u64, lr: f64, pass: Option<usize> },
    Pass { epoch: usize, pass: usize, lr: f64 },
}

/// Who writes down what happens, and may ask to leave.
#[derive(Clone, Default)]
struct Roll {
    seen: Arc<Mutex<Vec<Seen>>>,
    leave: Option<(usize, Stop)>,
}

impl Observer for Roll {
    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        let mut seen = self.seen.lock().expect("no test panics here");
        seen.push(Seen::Step {
            phase: report.phase.to_owned(),
            index: report.at.index,
            lr: report.lr,
            pass: report.interlude.map(|at| at.epoch),
        });
        let asides = seen.iter().filter(|seen| matches!(seen, Seen::Step { pass: Some(_), .. })).count();
        if let Some((after, stop)) = &self.leave
            && report.interlude.is_some()
            && asides == *after
        {
            stop.now.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn pass(&mut self, report: &PassReport<'_>) -> Result<()> {
        assert!(report.came.terms.contains_key("lens/chance") && report.passes == 2);
        let mut seen = self.seen.lock().expect("no test panics here");
        seen.push(Seen::Pass { epoch: report.at.epoch, pass: report.pass, lr: report.came.lr });
        Ok(())
    }
}

fn train(dir: &Path, roll: &Roll) -> Result<(Outcome, Checkpoint)> {
    let images = small::Images::new();
    let mut run = run(&images)?;
    let stop = roll.leave.as_ref().map_or_else(Stop::default, |(_, stop)| stop.clone());
    let checkpoints = Checkpoints::open(&dir.join("checkpoints"), "recipe")?;
    let progress = match checkpoints.load()? {
        Some(found) => run.restore(&found.checkpoint)?,
        None => Progress::default(),
    };
    let lines = JsonLines::new(&dir.join("metrics.jsonl"), Some(1));
    let outcome = fit(
        &mut run,
        progress,
        Some(&checkpoints),
        &stop,
        &mut [Box::new(lines), Box::new(roll.clone()) as Box<dyn Observer>],
    )?;
    let (Outcome::Finished(at) | Outcome::Stopped(at)) = &outcome;
    let now = run.checkpoint(at)?;
    Ok((outcome, now))
}

fn bits(tensors: &Tensors) -> Vec<(String, Vec<u32>)> {
    let floats = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
    let bits = |(name, tensor): (&String, &Tensor)| {
        let floats = floats(tensor).ok()?;
        Some((name.clone(), floats.into_iter().map(f32::to_bits).collect()))
    };
    tensors.iter().filter_map(bits).collect()
}

fn lines(dir: &Path) -> Result<Vec<String>> {
    let mut lines = metrics::read(&dir.join("metrics.jsonl"))?;
    for line in &mut lines {
        line.remove("seconds");
    }
    Ok(lines.iter().map(|line| serde_json::to_string(line).expect("plain values")).collect())
}

#[test]
fn passes_come_before_their_epochs_with_a_rate_of_their_own() -> Result<()> {
    let (dir, roll) = (tempfile::tempdir().expect("a place for files"), Roll::default());
    let (outcome, saved) = train(dir.path(), &roll)?;
    let Outcome::Finished(at) = outcome else { panic!("nobody stopped it") };
    assert_eq!((at.steps, at.aside.steps, at.aside.passes), (8, 16, 4));
    assert_eq!(at.images, 2 * 2 * 20 + 9 + 4 * 20);
    assert!(
        !bits(&saved.weights)
            .iter()
            .any(|(name, bits)| name == "augment.tint" && bits.iter().all(|&b| b == 0))
    );

    let seen = roll.seen.lock().expect("no test panics here").clone();
    let passes: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Pass { .. })).cloned().collect();
    let pass = |epoch, pass, lr| Seen::Pass { epoch, pass, lr };
    assert_eq!(passes, [pass(0, 0, 0.1), pass(0, 1, 0.05), pass(1, 0, 0.1), pass(1, 1, 0.05)]);
    let order: Vec<_> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Step { phase, index, pass, .. } if phase != "look" => Some((*index, *pass)),
            _ => None,
        })
        .collect();
    let epoch = |first: u64| {
        let aside = (0..8).map(move |step| (first, Some(step / 4)));
        aside.chain((first..first + 4).map(|index| (index, None)))
    };
    assert_eq!(order, epoch(0).chain(epoch(4)).collect::<Vec<_>>());

    let lines = metrics::read(&dir.path().join("metrics.jsonl"))?;
    let events = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((events("pass"), events("epoch")), (4, 2));
    Ok(())
}

/// Not the student, and not its statistics.
#[test]
fn a_search_moves_what_it_searches_for() -> Result<()> {
    let images = small::Images::new();
    let mut run = run(&images)?;
    run.phases.retain(|phase| phase.name == "tinting");
    run.epochs = 1;
    let before = bits(&run.params.tensors("")?);
    fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
    for ((name, before), (_, after)) in before.into_iter().zip(bits(&run.params.tensors("")?)) {
        assert_eq!(before != after, name == "augment.tint", "{name}");
    }
    Ok(())
}

#[test]
fn a_stop_after_any_step_of_a_pass_changes_nothing() -> Result<()> {
    let whole = tempfile::tempdir().expect("a place for files");
    let (_, expected) = train(whole.path(), &Roll::default())?;
    for after in 1..=16 {
        let parted = tempfile::tempdir().expect("a place for files");
        let roll = Roll { leave: Some((after, Stop::default())), ..Roll::default() };
        let (outcome, _) = train(parted.path(), &roll)?;
        let Outcome::Stopped(at) = outcome else { panic!("asked to stop") };
        assert_eq!((at.aside.steps as usize, at.step), (after, 0));
        let (_, got) = train(parted.path(), &Roll::default())?;
        assert_eq!(bits(&expected.weights), bits(&got.weights), "stopped after {after} steps aside");
        for (phase, state) in &expected.optimizers {
            assert_eq!(bits(state), bits(&got.optimizers[phase]), "{phase}");
        }
        assert_eq!(expected.progress.timeless(), got.progress.timeless());
        assert_eq!(lines(whole.path())?, lines(parted.path())?, "stopped after {after} steps aside");
    }
    Ok(())
}

/// What a phase remembers ends with its interlude: the second begins as a first one would.
#[test]
fn each_interlude_begins_with_a_fresh_optimiser() -> Result<()> {
    let images = small::Images::new();
    let mut run = run(&images)?;
    let state = run.phases[2].optimizer.state()?;
    fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
    let moved = run.phases[2].optimizer.state()?;
    assert_ne!(bits(&state), bits(&moved));
    assert_eq!(moved["step.augment.tint"].to_scalar::<i64>()?, 8, "two passes of four steps, not four");
    run.phases[2].optimizer.forget()?;
    assert_eq!(bits(&state), bits(&run.phases[2].optimizer.state()?));
    Ok(())
}
