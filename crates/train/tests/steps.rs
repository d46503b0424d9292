//! Steps that a GPU is told at one word, on a machine that does as if it were one.

mod small;

use candle::{DType, Device, Tensor, backprop::GradStore};
use small::{Images, Near, Task, phase, term};
use sokd_core::{Batch, DistillLoss, Error, Key, LearnSplit, Lens, Mode, Pair, Result, Step, Terms};
use sokd_nn::OptimSpec;
use sokd_ops::{Backend, put_, with_backend};
use sokd_train::{
    Checkpoint, Descend, Distiller, Hand, Observer, Outcome, Phase, Progress, Schedule, StepReport, Stop,
    TermOf, Training, Update, fit,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// The distance of the logits.
struct Far;

impl DistillLoss for Far {
    fn terms(&self, pair: &Pair<'_>, _: &Step) -> Result<Terms> {
        let teacher = &pair.teacher("far")?.out.logits;
        let distance = (&pair.student.out.logits - teacher)?.sqr()?;
        let most = distance.detach().max_all()?;
        Ok(Terms::one("distance", distance.mean(1)?).reading("most", &most))
    }
}

/// More with every step of the run.
struct Growing;

impl DistillLoss for Growing {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        Ok(Terms::one("distance", (pair.student.out.logits.sqr()?.mean(1)? * at.index as f64)?))
    }
}

/// Each example weighed by chance, which is drawn ahead.
struct Ahead(Tensor);

impl Ahead {
    fn weights(key: Key, count: usize) -> Result<Tensor> {
        let mut stream = key.fold("ahead").stream();
        let drawn: Vec<f32> = (0..count).map(|_| stream.uniform() as f32).collect();
        Ok(Tensor::new(drawn, &Device::Cpu)?)
    }
}

impl DistillLoss for Ahead {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        assert!(at.drawn, "everyone has drawn");
        let logits = &pair.student.out.logits;
        let weights = self.0.narrow(0, 0, logits.dim(0)?)?;
        Ok(Terms::one("distance", (logits.sqr()?.mean(1)? * weights)?))
    }

    fn draw(&self, at: &Step) -> Result<()> {
        put_(&self.0, &Self::weights(at.key, self.0.dim(0)?)?)
    }
}

/// Shows all images twice, the first time darker by chance, of which it speaks.
struct Dim;

impl Lens for Dim {
    fn shows(&self, _: &Step) -> usize {
        2
    }

    fn look(&self, batch: &Batch, at: &Step) -> Result<(Batch, Terms)> {
        let chance = at.key.stream().uniform();
        let twice = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        let seen = Batch {
            images: twice(&(&batch.images * chance)?, &batch.images)?,
            labels: twice(&batch.labels, &batch.labels)?,
            rows: twice(&batch.rows, &batch.rows)?,
        };
        Ok((seen, Terms::default().reading("chance", &Tensor::new(chance as f32, &Device::Cpu)?)))
    }
}

/// Down the gradient, by one who does not say that a device could do it again.
struct Told;

impl Update for Told {
    fn grads(
        &self,
        distiller: &Distiller,
        phase: &Phase,
        hand: &Hand<'_>,
        at: &Step,
    ) -> Result<(Terms, GradStore)> {
        Descend {}.grads(distiller, phase, hand, at)
    }
}

/// Nine batches, of which the last is smaller.
fn images() -> Images {
    let mut images = Images::new();
    images.train.count = 50;
    images
}

/// Three epochs of three phases: one acts in every step, one in every second, one in the second epoch alone. The learning rates move
/// with the steps, a term's weight with the epochs.
fn run(images: &Images, loss: Box<dyn DistillLoss>) -> Result<Training<'_>> {
    let mut run = images.run()?;
    let look = phase("look", &run.params, "student", r#"{ "type": "adam" }"#)?;
    let mut apart = phase("apart", &run.params, "student", r#"{ "type": "adamw" }"#)?;
    apart.mode = Mode::Probe;
    run.phases.truncate(1);
    run.phases.push(look);
    run.phases.push(apart);
    for (phase, every) in run.phases.iter_mut().zip([1, 2, 1]) {
        (phase.every, phase.lr.warmup_epochs, phase.lr.base) = (every, 4, 0.01);
    }
    run.phases[2].epochs = 1..2;
    let ramp: Schedule = serde_json::from_str(r#"{ "ramp": 3 }"#).expect("a schedule");
    run.distiller.terms = vec![
        term("task", Schedule::Constant(1.0), Task),
        TermOf { name: "distill".into(), weight: ramp, loss },
    ];
    run.epochs = 3;
    Ok(run)
}

/// What was said of captures, and every number of every step.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    captures: BTreeMap<String, usize>,
    steps: Vec<String>,
}

impl Diary {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("no test panics here")
    }
}

impl Observer for Diary {
    fn captured(&mut self, phase: &str, outcome: std::result::Result<(), &Error>) -> Result<()> {
        let said = outcome.map_or_else(ToString::to_string, |()| "captured".to_owned());
        *self.pages().captures.entry(format!("{phase}: {said}")).or_default() += 1;
        Ok(())
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        let StepReport { phase, at, terms, lr, images, .. } = report;
        let mut line = format!("{phase} {} {lr} {images}", at.index);
        for term in *terms {
            let value = term.value.mean_all()?.to_scalar::<f32>()?;
            let _ = write!(line, " {} {} {value:?}", term.name, term.weight);
        }
        self.pages().steps.push(line);
        Ok(())
    }
}

/// Wishes to leave after some steps.
struct Fate(Vec<u64>, Stop);

impl Observer for Fate {
    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        if self.0.contains(&report.at.index) {
            self.1.now.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Trains as a GPU would, or one operation after another where it is `told`. Leaves after some steps, and goes on.
fn train(mut run: Training<'_>, told: bool, stops: &[u64]) -> Result<(Checkpoint, Diary)> {
    for phase in run.phases.iter_mut().filter(|_| told) {
        phase.update = Box::new(Told);
    }
    let (diary, mut at) = (Diary::default(), Progress::default());
    with_backend(Backend::Mirror, || {
        loop {
            let stop = Stop::default();
            let left = stops.iter().copied().filter(|&index| index >= at.steps).collect();
            let mut watch: Vec<Box<dyn Observer>> =
                vec![Box::new(diary.clone()), Box::new(Fate(left, stop.clone()))];
            match fit(&mut run, at, None, &stop, &mut watch)? {
                Outcome::Finished(at) => return Ok((run.checkpoint(&at)?, diary)),
                Outcome::Stopped(to) => at = to,
            }
        }
    })
}

fn bits(checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<u64>)>> {
    let all = checkpoint
        .weights
        .iter()
        .chain(checkpoint.optimizers.values().flatten())
        .chain(checkpoint.ema.iter().flatten());
    let bits = |(name, tensor): (&String, &Tensor)| {
        let numbers = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        Ok((name.clone(), numbers.into_iter().map(f64::to_bits).collect()))
    };
    all.map(bits).collect()
}

#[test]
fn a_run_comes_to_the_same_bits_and_says_the_same() -> Result<()> {
    let images = images();
    let (one, said) = train(run(&images, Box::new(Far))?, true, &[])?;
    let (other, says) = train(run(&images, Box::new(Far))?, false, &[])?;
    assert!(bits(&one)? == bits(&other)?);
    assert_eq!(one.progress.timeless(), other.progress.timeless());
    let (said, says) = (said.pages(), says.pages());
    assert_eq!(said.steps.len(), 27 + 14 + 9);
    assert_eq!(said.steps, says.steps);
    assert!(
        said.captures.keys().all(|said| said.ends_with("a step waits for a number")),
        "{:?}",
        said.captures
    );
    // In each epoch anew.
    let captured = |phase: &str| says.captures.get(&format!("{phase}: captured")).copied();
    assert_eq!(["student", "look", "apart"].map(captured), [Some(3), Some(3), Some(1)]);
    assert_eq!(says.captures.len(), 3, "{:?}", says.captures);
    Ok(())
}

#[test]
fn steps_that_differ_go_on_operation_by_operation() -> Result<()> {
    let images = images();
    let drawing: fn() -> Box<dyn DistillLoss> = || Box::new(Near);
    let growing: fn() -> Box<dyn DistillLoss> = || Box::new(Growing);
    for (why, make) in [("every step draws", drawing), ("comes to other numbers", growing)] {
        let (one, _) = train(run(&images, make())?, true, &[])?;
        let (other, says) = train(run(&images, make())?, false, &[])?;
        assert!(bits(&one)? == bits(&other)?, "{why}");
        assert_eq!(one.progress.timeless(), other.progress.timeless(), "{why}");
        let says = says.pages();
        // Once for all of the run.
        assert!(
            says.captures.iter().all(|(said, &times)| said.contains(why) && times == 1),
            "{:?}",
            says.captures
        );
    }
    Ok(())
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bits() -> Result<()> {
    let images = images();
    let (one, said) = train(run(&images, Box::new(Far))?, true, &[])?;
    let (other, says) = train(run(&images, Box::new(Far))?, false, &[2, 5, 13, 14])?;
    assert!(bits(&one)? == bits(&other)?);
    assert_eq!(one.progress.timeless(), other.progress.timeless());
    assert_eq!(said.pages().steps, says.pages().steps);
    Ok(())
}

/// What is drawn ahead, and what a lens shows, is new in every step.
#[test]
fn steps_whose_draws_come_ahead_go_on_at_one_word() -> Result<()> {
    let images = images();
    let make = |lens: bool| -> Result<Training<'_>> {
        let mut run = run(
            &images,
            Box::new(Ahead(Tensor::zeros(if lens { 12 } else { 6 }, DType::F32, &Device::Cpu)?)),
        )?;
        run.distiller.lens = lens.then(|| Box::new(Dim) as Box<dyn Lens>);
        Ok(run)
    };
    for lens in [false, true] {
        let (one, said) = train(make(lens)?, true, &[])?;
        let (other, says) = train(make(lens)?, false, &[3, 14])?;
        assert!(bits(&one)? == bits(&other)?, "{lens}");
        assert_eq!(one.progress.timeless(), other.progress.timeless());
        assert_eq!(said.pages().steps, says.pages().steps);
        let says = says.pages();
        // Seven times, and four more where the run was taken up again.
        let captured = says.captures.iter().filter(|(said, _)| said.ends_with("captured"));
        assert_eq!(captured.map(|(_, times)| times).sum::<usize>(), 11, "{:?}", says.captures);
        assert_eq!(says.captures.len(), 3, "{:?}", says.captures);
    }
    Ok(())
}

const SGD: &str = r#"{ "type": "sgd" }"#;

/// Adds what it learned to images, more or less of it by chance.
struct Tint(Tensor);

impl Lens for Tint {
    fn look(&self, batch: &Batch, at: &Step) -> Result<(Batch, Terms)> {
        let tint = if at.focuses { self.0.clone() } else { self.0.detach() };
        let images = batch.images.broadcast_add(&(&tint * (0.5 + at.key.stream().uniform()))?)?;
        let said = Terms::default().reading("tint", &tint.max_all()?);
        // What it costs has a gradient of its own.
        Ok((Batch { images, ..batch.clone() }, said.with("price", 0.1, tint.sqr()?)))
    }
}

/// What a lens does is new in every step, and so is the way back through it: the networks go at one word, and the lens learns
/// from what they leave behind its images. With other weights beside, a phase is told operation by operation.
#[test]
fn a_phase_that_moves_a_lens_goes_on_at_one_word() -> Result<()> {
    let images = images();
    let make = |beside: &str, priced: bool| -> Result<Training<'_>> {
        let mut run = run(&images, Box::new(Far))?;
        let vars = run.params.builder(&Device::Cpu);
        let tint = vars.get_with_hints(3, "augment.tint", candle_nn::Init::Const(0.1))?;
        run.distiller.lens = Some(Box::new(Tint(tint)));
        let mut tinting = phase("tinting", &run.params, "augment", SGD)?;
        if !beside.is_empty() {
            let vars = ["augment", beside].iter().flat_map(|group| run.params.group(group)).collect();
            tinting.optimizer = serde_json::from_str::<OptimSpec>(SGD).expect("one").build(vars)?;
        }
        (tinting.mode, tinting.clip) = (Mode::Eval, Some(0.1));
        if !priced {
            tinting.toward = Some([("task".to_owned(), -1.0), ("distill".to_owned(), 1.0)].into());
        }
        run.phases.push(tinting);
        Ok(run)
    };
    for (beside, priced) in [("", false), ("", true), ("student", false)] {
        let (one, said) = train(make(beside, priced)?, true, &[])?;
        let (other, says) = train(make(beside, priced)?, false, &[3, 14])?;
        assert!(bits(&one)? == bits(&other)?, "{beside}, {priced}");
        assert_eq!(one.progress.timeless(), other.progress.timeless());
        let (said, says) = (said.pages(), says.pages());
        assert_eq!(said.steps, says.steps);
        let moved = |line: &&String| line.starts_with("tinting") && !line.contains("lens/tint 0 0.1 ");
        assert!(says.steps.iter().filter(moved).count() > 20, "{:?}", says.steps);
        let tinting: Vec<_> = says.captures.iter().filter(|(said, _)| said.starts_with("tinting")).collect();
        let expected =
            if beside.is_empty() { ("captured", 5) } else { ("a lens learns, and more than it", 3) };
        assert!(tinting.len() == 1 && tinting[0].0.ends_with(expected.0), "{tinting:?}");
        assert_eq!(*tinting[0].1, expected.1, "{tinting:?}");
    }
    Ok(())
}

/// A phase on images of its own, of which every third batch is smaller: each size is written down by itself.
#[test]
fn a_phase_on_the_search_split_goes_on_at_one_word() -> Result<()> {
    let images = images();
    let make = || -> Result<Training<'_>> {
        let mut run = run(&images, Box::new(Far))?;
        (run.phases[1].split, run.phases[1].every) = (LearnSplit::Search, 1);
        Ok(run)
    };
    let (one, said) = train(make()?, true, &[])?;
    let (other, says) = train(make()?, false, &[])?;
    assert!(bits(&one)? == bits(&other)?);
    assert_eq!(one.progress.timeless(), other.progress.timeless());
    assert_eq!(said.pages().steps, says.pages().steps);
    assert_eq!(says.pages().captures.get("look: captured"), Some(&6), "{:?}", says.pages().captures);
    Ok(())
}

/// Shows twice what it says it shows once.
struct Liar;

impl Lens for Liar {
    fn look(&self, batch: &Batch, at: &Step) -> Result<(Batch, Terms)> {
        Dim.look(batch, at)
    }
}

#[test]
fn a_lens_that_shows_more_than_it_says_is_refused() -> Result<()> {
    let images = images();
    let mut run = run(&images, Box::new(Far))?;
    run.distiller.lens = Some(Box::new(Liar));
    let error = train(run, false, &[]).err().expect("it lies").to_string();
    assert!(error.contains("lens") && error.contains("examples 1 times, and of 6 it shows 12"), "{error}");
    Ok(())
}
