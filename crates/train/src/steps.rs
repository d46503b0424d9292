//! Steps that a GPU is told at one word.

use crate::checkpoint::Tensors;
use crate::{Distiller, Hand, Observer, Phase, Shown, Tally, step};
use candle::{DType, Tensor, TensorId};
use sokd_core::{Batch, Error, Result, Step, Terms, streams_begun};
use sokd_nn::{Moment, Params};
use sokd_ops::{Replay, capture, rehearse, replays};
use std::collections::BTreeMap;

/// Takes the steps of a run, one after another.
///
/// A small network keeps a GPU waiting for whoever tells it operation by operation. So where a step would tell it the same as the
/// last, it is written down (a CUDA graph), and from then on told at one word: in the same memory, to other images, at the
/// learning rate of the moment. That holds for an epoch, through which whatever is scheduled stands still.
///
/// Once in each epoch a step is taken both ways from the same place: operation by operation, and as it was written down
/// elsewhere in the run and with another key. Only if both come to the same bits does it go on at one word; what depends on where
/// the run stands or on a number on this side is found out so, and told operation by operation as ever. What is drawn ahead, and
/// what a lens shows, is drawn and shown in every step anew.
pub struct Steps {
    params: Params,
    /// What is known of steps, by the phases that are due in them.
    known: BTreeMap<Vec<usize>, Known>,
}

/// What is known of steps in which the same phases are due.
enum Known {
    /// They are not the same every time.
    Change,
    /// The next of the last one's kind may tell the device the same.
    Steady(Kind),
    /// All of that kind do.
    Held(Kind, Box<Held>),
}

impl Known {
    fn holds_in(&self, epoch: usize) -> bool {
        match self {
            Self::Change => true,
            Self::Steady(kind) | Self::Held(kind, ..) => kind.epoch == epoch,
        }
    }
}

/// Steps that may tell a device the same.
#[derive(Clone, Debug, PartialEq)]
struct Kind {
    epoch: usize,
    images: Vec<usize>,
    /// Where it is summed what their phases come to.
    sums: Vec<TensorId>,
}

impl Kind {
    fn of(phases: &[Phase], due: &[usize], images: &Tensor, at: &Step, tally: &Tally) -> Self {
        let sums = due.iter().flat_map(|&index| tally.places(&phases[index].name)).collect();
        Self { epoch: at.epoch, images: images.dims().to_vec(), sums }
    }
}

/// A step that was written down, and the work that it is.
struct Held {
    fixed: Fixed,
    replay: Replay,
}

/// A step in memory of its own.
struct Fixed {
    due: Vec<usize>,
    /// How many images a batch has.
    images: usize,
    /// Where it looks for what its phases see: each for itself where a lens stands before them, else all for the same.
    seen: Vec<Shown>,
    /// Where each phase leaves what it says.
    said: Vec<Terms>,
    /// Which step it takes itself for.
    at: Step,
}

/// So far from where a run stands is a step that is written down.
const ELSEWHERE: u64 = 1 << 40;

impl Steps {
    /// Of phases that move these weights.
    pub fn new(params: Params) -> Self {
        Self { params, known: BTreeMap::new() }
    }

    /// Runs every phase that is due.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a term is not finite any more: on a CPU, the weights are then as they were before.
    pub fn take(
        &mut self,
        distiller: &Distiller,
        phases: &mut [Phase],
        hand: &Hand<'_>,
        (at, now): (Step, Moment),
        tally: &mut Tally,
        watch: &mut [Box<dyn Observer>],
    ) -> Result<()> {
        let due: Vec<usize> = (0..phases.len()).filter(|&index| phases[index].due(&at)).collect();
        let batch = &hand.train.batch;
        let kind = Kind::of(phases, &due, &batch.images, &at, tally);
        self.known.retain(|_, known| known.holds_in(at.epoch));
        let (said, known) = match self.known.remove(&due) {
            Some(Known::Held(known, mut held)) if known == kind => {
                let Held { fixed, replay } = &mut *held;
                fixed.look(draw(&due, distiller, phases, batch, &at)?)?;
                aim(phases, &due, &now)?;
                replay.run(|| fixed.work(distiller, phases, tally))?;
                (fixed.said.clone(), Known::Held(kind, held))
            }
            Some(Known::Steady(last)) if last == kind => {
                aim(phases, &due, &now)?;
                let (said, held) = self.write_down(&due, distiller, phases, (batch, &at), tally)?;
                tell(phases, &due, held.as_ref().map(drop), watch)?;
                (said, held.map_or(Known::Change, |held| Known::Held(kind, held)))
            }
            known => {
                step(distiller, phases, hand, (at, now), tally, watch)?;
                let could = replays(batch.images.device()) && hand.world.is_alone() && !due.is_empty();
                let known = match known {
                    _ if !could => return Ok(()),
                    Some(Known::Change) => Known::Change,
                    _ => match changes(distiller, phases, &due, &at)? {
                        Some(why) => {
                            tell(phases, &due, Err(&why), watch)?;
                            Known::Change
                        }
                        None => Known::Steady(Kind::of(phases, &due, &batch.images, &at, tally)),
                    },
                };
                self.known.insert(due, known);
                return Ok(());
            }
        };
        for (&index, said) in due.iter().zip(&said) {
            let lr = phases[index].lr.at(&now);
            phases[index].finish((&at, lr), (hand.train.images()?, said), tally, watch)?;
        }
        self.known.insert(due, known);
        Ok(())
    }

    /// Takes a step operation by operation; then once more from the same place, as it is written down. What the phases say, and
    /// what was written down, or why nothing was: the step is taken either way.
    fn write_down(
        &self,
        due: &[usize],
        distiller: &Distiller,
        phases: &mut [Phase],
        (batch, at): (&Batch, &Step),
        tally: &mut Tally,
    ) -> Result<(Vec<Terms>, Result<Box<Held>>)> {
        let (device, images) = (batch.images.device(), batch.labels.dim(0)?);
        let seen = draw(due, distiller, phases, batch, at)?;
        let seen = seen.iter().map(Shown::copy).collect::<Result<Vec<_>>>()?;
        let mut fixed = Fixed { due: due.to_vec(), images, seen, said: Vec::new(), at: *at };
        let mut beside = tally.copy()?;
        let before = Moved::of(&self.params, phases)?;
        let begun = streams_begun();
        rehearse(device, || fixed.work(distiller, phases, &mut beside))?;
        let said = fixed.said.clone();
        let elsewhere = !due.iter().all(|&index| beside.is_on(device, &phases[index].name));
        let replay = if streams_begun() != begun {
            Err(Error::setting("capture", "every step draws on its way"))
        } else if elsewhere {
            Err(Error::setting("capture", "a term is told on this side"))
        } else {
            let after = Moved::of(&self.params, phases)?;
            before.restore(&self.params, phases)?;
            fixed.at = Step { index: at.index + ELSEWHERE, key: at.key.fold("elsewhere"), ..*at };
            let replay = self.as_written(&mut fixed, distiller, phases, tally, (&after, &beside));
            if replay.is_err() {
                after.restore(&self.params, phases)?;
            }
            replay
        };
        if replay.is_err() {
            *tally = beside;
        }
        Ok((said, replay.map(|replay| Box::new(Held { fixed, replay }))))
    }

    /// Writes a step down, and takes it so: to where it went operation by operation.
    fn as_written(
        &self,
        fixed: &mut Fixed,
        distiller: &Distiller,
        phases: &mut [Phase],
        tally: &mut Tally,
        (after, beside): (&Moved, &Tally),
    ) -> Result<Replay> {
        let device = fixed.seen[0].batch.images.device().clone();
        let replay = capture(&device, || fixed.work(distiller, phases, tally))?;
        replay.run(|| fixed.work(distiller, phases, tally))?;
        if Moved::of(&self.params, phases)?.is(after)? && tally.sums()? == beside.sums()? {
            return Ok(replay);
        }
        Err(Error::setting("capture", "elsewhere in the run, a step comes to other numbers"))
    }
}

/// Lets all know how steps of these phases go on from here.
fn tell(
    phases: &[Phase],
    due: &[usize],
    outcome: std::result::Result<(), &Error>,
    watch: &mut [Box<dyn Observer>],
) -> Result<()> {
    let names: Vec<&str> = due.iter().map(|&index| phases[index].name.as_str()).collect();
    watch.iter_mut().try_for_each(|observer| observer.captured(&names, outcome))
}

impl Fixed {
    /// What a device does in a step of phases that were aimed.
    fn work(&mut self, distiller: &Distiller, phases: &mut [Phase], tally: &mut Tally) -> Result<()> {
        let hands: Vec<Hand<'_>> = self.seen.iter().map(|seen| Hand::alone(seen.anew())).collect();
        let seen = hands.iter().chain(std::iter::repeat(&hands[0]));
        let advance = |(&index, seen): (&usize, &Hand<'_>)| {
            phases[index].advance(distiller, (self.images, seen), &self.at, tally)
        };
        self.said = self.due.iter().zip(seen).map(advance).collect::<Result<_>>()?;
        Ok(())
    }

    /// Puts what the next step sees where it looks.
    fn look(&self, seen: Vec<Shown>) -> Result<()> {
        self.seen.iter().zip(seen).try_for_each(|(place, seen)| place.put(&seen))
    }
}

/// What phases see of a batch once everyone has drawn for a step: each its own where a lens shows it, else all the same.
fn draw(
    due: &[usize],
    distiller: &Distiller,
    phases: &[Phase],
    batch: &Batch,
    at: &Step,
) -> Result<Vec<Shown>> {
    let seen = due.iter().map(|&index| phases[index].draw(distiller, batch, at));
    let mut seen = seen.collect::<Result<Vec<_>>>()?;
    if distiller.lens.is_none() {
        seen.truncate(1);
    }
    Ok(seen)
}

/// Why the next step of these phases tells a device something else than the last, if that is plain.
fn changes(distiller: &Distiller, phases: &[Phase], due: &[usize], at: &Step) -> Result<Option<Error>> {
    let due = || due.iter().map(|&index| &phases[index]);
    let lay = due().map(|phase| phase.lays(distiller, at)).collect::<Result<Vec<_>>>()?;
    let problem = if due().any(Phase::focuses) {
        "a lens learns"
    } else if !due().all(|phase| phase.repeats() && phase.optimizer.repeats()) {
        "a step waits for a number"
    } else if lay.into_iter().filter(|&lays| lays).count() > 1 {
        // What one of them laid down would be read by all.
        "its phases draw one after another"
    } else {
        return Ok(None);
    };
    Ok(Some(Error::setting("capture", problem)))
}

fn aim(phases: &mut [Phase], due: &[usize], now: &Moment) -> Result<()> {
    due.iter().try_for_each(|&index| {
        let lr = phases[index].lr.at(now);
        phases[index].optimizer.aim(lr)
    })
}

/// All that a step moves, copied.
struct Moved {
    weights: Tensors,
    optimizers: Vec<Tensors>,
}

impl Moved {
    fn of(params: &Params, phases: &[Phase]) -> Result<Self> {
        let optimizers = phases.iter().map(|phase| phase.optimizer.state()).collect::<Result<_>>()?;
        Ok(Self { weights: params.tensors("")?, optimizers })
    }

    fn restore(&self, params: &Params, phases: &mut [Phase]) -> Result<()> {
        params.load("", &self.weights)?;
        let phases = phases.iter_mut().zip(&self.optimizers);
        phases.into_iter().try_for_each(|(phase, state)| phase.optimizer.load_state(state))
    }

    /// Whether the other is the same to the bit.
    fn is(&self, other: &Self) -> Result<bool> {
        let bits = |tensor: &Tensor| -> Result<Vec<u64>> {
            let numbers = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            Ok(numbers.into_iter().map(f64::to_bits).collect())
        };
        for (own, other) in self.tensors().zip(other.tensors()) {
            if bits(own)? != bits(other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.weights.values().chain(self.optimizers.iter().flat_map(Tensors::values))
    }
}
