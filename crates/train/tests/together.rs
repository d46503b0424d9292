//! Several ranks train one network: the same weights everywhere, those of one process where nothing depends on the
//! share, and nothing lost when one of them goes. Ranks are threads here, over real connections.

mod small;

use candle::{Device, Tensor};
use candle_nn::Init;
use small::{Images, Small, phase, term};
use sokd_core::{Batch, Batches, DistillLoss, Error, Key, LearnSplit, Mode, Pair, Result, Step, Terms};
use sokd_nn::Params;
use sokd_train::{
    Checkpoint, Checkpoints, Distiller, Hand, Observer, Outcome, Progress, Schedule, Shown, StepReport, Stop,
    Training, Unroll, UpdateSpec, evaluate, fit,
};
use sokd_world::{ALONE, Fabric, Place, Share, World};
use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What each of two ranks makes of the world.
fn each<T: Send>(make: impl Fn(&World) -> Result<T> + Sync) -> [Result<T>; 2] {
    each_over(|world| world, make)
}

/// The same of a world whose devices have a way of their own.
fn each_over<T: Send>(
    over: impl Fn(World) -> World + Sync,
    make: impl Fn(&World) -> Result<T> + Sync,
) -> [Result<T>; 2] {
    let port = TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let place = |rank| Place { rank, size: 2, local: rank, sharing: 2, host: "127.0.0.1".into(), port };
    thread::scope(|scope| {
        let (make, over) = (&make, &over);
        let join = move |rank| World::join(&place(rank), Duration::from_secs(20)).map(over);
        let rank = |rank| scope.spawn(move || make(&join(rank)?));
        [0, 1].map(rank).map(|thread| thread.join().expect("no thread panics"))
    })
}

fn both<T>(results: [Result<T>; 2]) -> Result<[T; 2]> {
    let [first, second] = results;
    Ok([first?, second?])
}

/// Batches of 7, 7 and 6: shares that differ.
fn images(share: Share) -> Images {
    let mut images = Images::new();
    images.train.batch = 7;
    images.search.count = 10;
    (images.train.share, images.search.share) = (share, share);
    images
}

fn weights(checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<u32>)>> {
    let bits = |tensor: &Tensor| -> Result<Vec<u32>> {
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    checkpoint.weights.iter().map(|(name, tensor)| Ok((name.clone(), bits(tensor)?))).collect()
}

fn ended(run: &Training<'_>, outcome: &Outcome) -> Result<(Progress, Checkpoint)> {
    let (Outcome::Finished(at) | Outcome::Stopped(at)) = outcome;
    Ok((at.timeless(), run.checkpoint(at)?))
}

/// Everything at once: normalisation, chance, clipping, two phases, held-out images, a moving average.
fn whole(world: &World) -> Result<(Progress, Checkpoint)> {
    let images = images(world.share());
    let mut run = Training { world, ..images.run()? };
    let outcome = fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
    ended(&run, &outcome)
}

#[test]
fn every_rank_ends_with_the_same_weights_and_judges_alike() -> Result<()> {
    let [(at, first), (same, second)] = both(each(whole))?;
    assert_eq!(at, same, "also the terms, the images and what the student scores");
    assert_eq!(at.images, 2 * 20 + 4 + 4);
    assert_eq!(weights(&first)?, weights(&second)?);
    assert_eq!(weights(&first)?, weights(&both(each(whole))?[0].1)?, "and so does the next run");

    let params = Params::new(Key::new(9));
    let judged = Small::new(&params.builder(&Device::Cpu).pp("student"))?;
    params.load("", &first.weights)?;
    let alone = evaluate(&judged, &Images::new().test, None)?;
    let together = &at.latest["test"];
    assert_eq!((alone.correct, alone.loss, alone.ece), (together.correct, together.loss, together.ece));
    Ok(())
}

/// With normalisation at rest and no chance, a share knows nothing of its borders.
#[test]
fn two_ranks_are_one_where_nothing_depends_on_the_share() -> Result<()> {
    let rested = |world: &World| -> Result<(Progress, Checkpoint)> {
        let images = images(world.share());
        let mut run = Training { world, ..images.run()? };
        run.phases[0].mode = Mode::Eval;
        run.phases[1].mode = Mode::Eval;
        run.distiller.terms.retain(|term| term.name == "task");
        let outcome = fit(&mut run, Progress::default(), None, &Stop::default(), &mut [])?;
        ended(&run, &outcome)
    };
    let [(at, two), _] = both(each(rested))?;
    let (alone, one) = rested(&ALONE)?;
    assert_eq!((at.steps, at.images, at.searched), (alone.steps, alone.images, alone.searched));
    for (name, tensor) in &one.weights {
        let gap = (tensor - &two.weights[name])?.abs_max()?;
        assert!(gap < 1e-5, "{name}: {gap}");
    }
    Ok(())
}

trait AbsMax {
    fn abs_max(&self) -> Result<f32>;
}

impl AbsMax for Tensor {
    fn abs_max(&self) -> Result<f32> {
        Ok(self.flatten_all()?.to_vec1::<f32>()?.into_iter().fold(0.0, |most, value| most.max(value.abs())))
    }
}

/// What happens to a rank at the end of a phase in a step.
#[derive(Clone)]
struct Fate {
    phase: &'static str,
    step: u64,
    stop: Option<Stop>,
}

impl Observer for Fate {
    fn step(&mut self, report: &StepReport<'_>) -> Result<()> {
        if report.phase != self.phase || report.at.index != self.step {
            return Ok(());
        }
        match &self.stop {
            Some(stop) => stop.now.store(true, Ordering::Relaxed),
            None => return Err(Error::setting("power", "someone pulled the plug")),
        }
        Ok(())
    }
}

/// Trains, rank 0 from and into `dir`; the fate is rank 1's.
fn kept(
    world: &World,
    dir: &Path,
    fate: Option<(&'static str, u64, bool)>,
) -> Result<(Progress, Checkpoint)> {
    let images = images(world.share());
    let mut run = Training { world, ..images.run()? };
    let checkpoints = world.leads().then(|| Checkpoints::open(dir, "recipe")).transpose()?;
    let found = checkpoints.as_ref().map(Checkpoints::load).transpose()?.flatten();
    let from = match found {
        Some(found) => run.restore(&found.checkpoint)?,
        None => Progress::default(),
    };
    let stop = Stop::default();
    let mut watch: Vec<Box<dyn Observer>> = Vec::new();
    if let Some((phase, step, stops)) = fate.filter(|_| !world.leads()) {
        watch.push(Box::new(Fate { phase, step, stop: stops.then(|| stop.clone()) }));
    }
    let outcome = fit(&mut run, from, checkpoints.as_ref(), &stop, &mut watch)?;
    ended(&run, &outcome)
}

/// A way between the devices of two ranks that are threads: a table on which they lay what they have.
#[derive(Debug, Default)]
struct Table {
    /// By rank, what it has laid there and the other has not taken yet.
    laid: [Mutex<VecDeque<Vec<f32>>>; 2],
    means: AtomicUsize,
}

#[derive(Debug)]
struct Seat {
    table: Arc<Table>,
    rank: usize,
    /// How many means rank 1 takes before it fails.
    lasts: usize,
}

impl Fabric for Seat {
    fn mean(&self, own: &Tensor, weights: &[f64], gone: &dyn Fn() -> Result<()>) -> Result<Tensor> {
        if self.rank == 1 && self.table.means.load(Ordering::Relaxed) / 2 >= self.lasts {
            return Err(Error::setting("gpu", "it has fallen off the bus"));
        }
        let own = own.to_vec1::<f32>()?;
        let lie = |rank: usize| self.table.laid[rank].lock().expect("no one panicked");
        // The other takes it.
        lie(self.rank).push_back(own.clone());
        let other = loop {
            match lie(1 - self.rank).pop_front() {
                Some(other) => break other,
                None => gone()?,
            }
            thread::sleep(Duration::from_micros(100));
        };
        self.table.means.fetch_add(1, Ordering::Relaxed);
        let parts = if self.rank == 0 { [own, other] } else { [other, own] };
        let mean = |at: usize| {
            let sum: f64 = (0..2).map(|rank| weights[rank] * f64::from(parts[rank][at])).sum();
            (sum / (weights[0] + weights[1])) as f32
        };
        Ok(Tensor::from_vec((0..parts[0].len()).map(mean).collect(), parts[0].len(), &Device::Cpu)?)
    }
}

/// Sits down at it, in a world of two.
fn at(table: &Arc<Table>, lasts: usize) -> impl Fn(World) -> World + Sync {
    move |world| {
        let seat = Seat { table: Arc::clone(table), rank: world.rank(), lasts };
        world.over(Box::new(seat))
    }
}

#[test]
fn means_that_devices_take_among_themselves_come_to_the_same_bits() -> Result<()> {
    let table = Arc::default();
    let [(at_hosts, over_hosts), _] = both(each(whole))?;
    let [(first, one), (second, other)] = both(each_over(at(&table, usize::MAX), whole))?;
    assert_eq!([&first, &second], [&at_hosts, &at_hosts]);
    let over_hosts = weights(&over_hosts)?;
    assert_eq!((weights(&one)?, weights(&other)?), (over_hosts.clone(), over_hosts));
    assert!(
        table.means.load(Ordering::Relaxed) > 2 * 5,
        "gradients and statistics of every step went this way"
    );
    Ok(())
}

/// A device that fails while the other's waits for it, as GPUs do, for ever.
#[test]
fn when_one_is_gone_nobodys_device_waits_for_it() -> Result<()> {
    for lasts in [0, 1, 7] {
        let (dir, table) = (tempfile::tempdir().expect("a place for files"), Arc::default());
        let [first, second] = each_over(at(&table, lasts), |world| kept(world, dir.path(), None));
        assert!(matches!(first, Err(Error::Parted { rank: 1, .. })), "it misses the other");
        assert!(second.is_err_and(|error| error.to_string().contains("bus")));
        let [(resumed, _), _] = both(each(|world| kept(world, dir.path(), None)))?;
        assert_eq!(
            resumed,
            both(each(whole))?[0].0,
            "and what was saved goes on to the end of an unbroken run"
        );
    }
    Ok(())
}

#[test]
fn a_wish_of_one_ends_all_after_the_same_step() -> Result<()> {
    let [(unbroken, weights_of_it), _] = both(each(whole))?;
    for step in 0..5 {
        let dir = tempfile::tempdir().expect("a place for files");
        let [first, second] = both(each(|world| kept(world, dir.path(), Some(("student", step, true)))))?;
        assert_eq!((first.0.steps, second.0.steps), (step + 1, step + 1));
        let [(at, checkpoint), _] = both(each(|world| kept(world, dir.path(), None)))?;
        assert_eq!(at, unbroken);
        assert_eq!(weights(&checkpoint)?, weights(&weights_of_it)?);
    }
    Ok(())
}

/// In the middle of a step, when one phase has moved its weights and the next waits for who will not come.
#[test]
fn when_one_is_gone_the_last_whole_step_is_kept() -> Result<()> {
    let [(unbroken, weights_of_it), _] = both(each(whole))?;
    for (phase, step) in [("student", 1), ("student", 3), ("look", 3), ("student", 4)] {
        let dir = tempfile::tempdir().expect("a place for files");
        let [first, second] = each(|world| kept(world, dir.path(), Some((phase, step, false))));
        assert!(matches!(first, Err(Error::Parted { rank: 1, .. })), "it misses the other");
        assert!(second.is_err_and(|error| error.to_string().contains("plug")));
        let saved = Checkpoints::open(dir.path(), "recipe")?.load()?.expect("a checkpoint").checkpoint;
        assert_eq!(saved.progress.steps, step);
        let [(at, checkpoint), _] = both(each(|world| kept(world, dir.path(), None)))?;
        assert_eq!(at, unbroken);
        assert_eq!(weights(&checkpoint)?, weights(&weights_of_it)?);
    }
    Ok(())
}

#[test]
fn a_memory_of_single_images_goes_with_one_process_only() -> Result<()> {
    let run = |world: &World| {
        let images = images(world.share());
        let run = Training { world, ..images.run()? };
        run.params.builder(&Device::Cpu).pp("adapter.crd").get_with_hints(
            4,
            "running_student",
            Init::Const(0.0),
        )?;
        run.check()
    };
    run(&ALONE)?;
    for said in each(run) {
        assert!(said.is_err_and(|error| error.to_string().contains("adapter.crd.running_student")));
    }
    Ok(())
}

/// Weights that a policy pulls, by each image's brightness.
struct Pull {
    weights: Tensor,
    policy: Tensor,
}

impl DistillLoss for Pull {
    fn terms(&self, pair: &Pair<'_>, at: &Step) -> Result<Terms> {
        let policy = if at.steers { self.policy.clone() } else { self.policy.detach() };
        let bright = pair.images.mean((1, 2))?;
        let half = |difference: Tensor| -> Result<Tensor> { Ok((difference.sqr()?.sum(1)? * 0.5)?) };
        let pulled = bright.broadcast_mul(&policy)?;
        let wanted = (&self.weights - 3.0)?.broadcast_mul(&pulled)?;
        Ok(Terms::one("inner", half(pulled.broadcast_sub(&self.weights)?)?).with("outer", 0.0, half(wanted)?))
    }
}

/// The step that all imagine is one step, by the gradient of all shares.
#[test]
fn all_imagine_the_same_step() -> Result<()> {
    let gradient = |world: &World| -> Result<(usize, Vec<f32>)> {
        let params = Params::new(Key::new(1));
        let vars = params.builder(&Device::Cpu);
        let draw = Init::Uniform { lo: -1.0, up: 1.0 };
        let (weights, policy) =
            (vars.get_with_hints(3, "student.w", draw)?, vars.get_with_hints(3, "policy.p", draw)?);
        let mut moves = phase("policy", &params, "policy", r#"{ "type": "sgd", "momentum": 0.0 }"#)?;
        let unroll = Unroll { lookahead: 0.1, ..Unroll::default() };
        moves.update = UpdateSpec::Unroll(unroll).as_ref().start(&params)?;
        moves.toward = Some(BTreeMap::from([("pull/outer".to_owned(), 1.0)]));
        assert_eq!(moves.split, LearnSplit::Train);
        let other = Params::new(Key::new(2));
        let distiller = Distiller {
            student: Box::new(Small::new(&other.builder(&Device::Cpu))?),
            teacher: None,
            lens: None,
            terms: vec![term("pull", Schedule::default(), Pull { weights, policy })],
        };
        let batch: Batch = images(world.share()).train.epoch(0, 0).next().expect("a batch")?;
        let count = batch.labels.dim(0)?;
        let hand = Hand { train: Shown::new(batch), search: None, world };
        let (_, grads) = moves.update.grads(&distiller, &moves, &hand, &Step::first(Key::new(0)))?;
        let [(_, policy)] = &params.group("policy")[..] else { panic!("one weight") };
        Ok((count, grads.get(policy).expect("it is steered").to_vec1()?))
    };
    let (seven, whole) = gradient(&ALONE)?;
    let [(three, first), (four, second)] = both(each(gradient))?;
    assert_eq!((three, four, seven), (3, 4, 7));
    for ((whole, first), second) in whole.iter().zip(first).zip(second) {
        let mean = (3.0 * first + 4.0 * second) / 7.0;
        assert!((whole - mean).abs() < 2e-4 * whole.abs().max(1.0), "{whole} for {mean}");
    }
    Ok(())
}
