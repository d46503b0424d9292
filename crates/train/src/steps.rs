//! Steps that a GPU is told at one word.

use crate::checkpoint::Tensors;
use crate::{Distiller, Hand, Observer, Phase, Shown, Tally, step};
use candle::{DType, Tensor, TensorId};
use sokd_core::{Batch, Error, Result, Step, Terms, streams_begun};
use sokd_nn::{Moment, Params};
use sokd_ops::{Replay, capture, put_, rehearse, replays};
use std::collections::BTreeMap;

/// Takes the steps of a run, one after another.
///
/// A small network keeps a GPU waiting for whoever tells it operation by operation. So where a step would tell it the same as the
/// last, it is written down (a CUDA graph), and from then on told at one word: in the same memory, to other images, at the
/// learning rate of the moment. That holds for an epoch, through which whatever is scheduled stands still.
///
/// Once in each epoch a step is taken both ways from the same place: operation by operation, and as it was written down
/// elsewhere in the run and with another key. Only if both come to the same bits does it go on at one word; what depends on where
/// the run stands, on a draw, or on a number on this side is found out so, and told operation by operation as ever.
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
    /// Where it looks for its images.
    batch: Batch,
    /// Where it leaves what each phase says.
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
            Some(Known::Held(known, held)) if known == kind => {
                fill(&held.fixed.batch, batch)?;
                aim(phases, &due, &now)?;
                held.replay.run(|| held.fixed.work(distiller, phases, tally))?;
                (held.fixed.said.clone(), Known::Held(kind, held))
            }
            Some(Known::Steady(last)) if last == kind => {
                aim(phases, &due, &now)?;
                let (said, held) = self.write_down(&due, distiller, phases, (batch, &at), tally)?;
                tell(phases, &due, held.as_ref().map(drop), watch)?;
                (said, held.map_or(Known::Change, |held| Known::Held(kind, held)))
            }
            known => {
                let begun = streams_begun();
                step(distiller, phases, hand, (at, now), tally, watch)?;
                let could = replays(batch.images.device()) && hand.world.is_alone() && !due.is_empty();
                let known = match known {
                    _ if !could => return Ok(()),
                    Some(Known::Change) => Known::Change,
                    _ => match changes(phases, &due, streams_begun() != begun) {
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
        let device = batch.images.device();
        let Batch { images, labels, rows } = batch;
        let batch = Batch { images: images.copy()?, labels: labels.copy()?, rows: rows.copy()? };
        let mut beside = tally.copy()?;
        let before = Moved::of(&self.params, phases)?;
        let said = rehearse(device, || work(due, distiller, phases, (&batch, at), &mut beside))?;
        let said = said.iter().map(in_place).collect::<Result<Vec<_>>>()?;
        let after = Moved::of(&self.params, phases)?;
        before.restore(&self.params, phases)?;

        let at = Step { index: at.index + ELSEWHERE, key: at.key.fold("elsewhere"), ..*at };
        let fixed = Fixed { due: due.to_vec(), batch, said: said.clone(), at };
        let replay = capture(device, || fixed.work(distiller, phases, tally)).and_then(|replay| {
            replay.run(|| fixed.work(distiller, phases, tally))?;
            if Moved::of(&self.params, phases)?.is(&after)? && tally.sums()? == beside.sums()? {
                return Ok(replay);
            }
            Err(Error::setting("capture", "elsewhere in the run, a step comes to other numbers"))
        });
        if replay.is_err() {
            after.restore(&self.params, phases)?;
            *tally = beside;
        }
        Ok((said, replay.map(|replay| Box::new(Held { fixed, replay }))))
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
    fn work(&self, distiller: &Distiller, phases: &mut [Phase], tally: &mut Tally) -> Result<()> {
        let said = work(&self.due, distiller, phases, (&self.batch, &self.at), tally)?;
        let (places, said) = (self.said.iter().flatten(), said.iter().flatten());
        places.zip(said).try_for_each(|(place, said)| put_(&place.value, &said.value))
    }
}

/// What a device does in a step of some phases that were aimed, and what they say: values alone.
fn work(
    due: &[usize],
    distiller: &Distiller,
    phases: &mut [Phase],
    (batch, at): (&Batch, &Step),
    tally: &mut Tally,
) -> Result<Vec<Terms>> {
    let hand = Hand::alone(Shown::new(batch.clone()));
    due.iter().map(|&index| phases[index].advance(distiller, &hand, at, tally)).collect()
}

/// Why the next step of these phases tells a device something else than the last, if that is plain.
fn changes(phases: &[Phase], due: &[usize], draws: bool) -> Option<Error> {
    let repeats = |&index: &usize| phases[index].repeats() && phases[index].optimizer.repeats();
    let problem = if draws {
        "every step draws"
    } else if !due.iter().all(repeats) {
        "a step waits for a number"
    } else {
        return None;
    };
    Some(Error::setting("capture", problem))
}

/// What was said, in memory of its own.
fn in_place(said: &Terms) -> Result<Terms> {
    said.iter().try_fold(Terms::default(), |all, term| {
        Ok(all.with(&term.name, term.weight, term.value.force_contiguous()?))
    })
}

fn aim(phases: &mut [Phase], due: &[usize], now: &Moment) -> Result<()> {
    due.iter().try_for_each(|&index| {
        let lr = phases[index].lr.at(now);
        phases[index].optimizer.aim(lr)
    })
}

fn fill(place: &Batch, batch: &Batch) -> Result<()> {
    put_(&place.images, &batch.images)?;
    put_(&place.labels, &batch.labels)?;
    put_(&place.rows, &batch.rows)
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
