//! Steps that a GPU is told at one word.

use crate::checkpoint::Tensors;
use crate::{Distiller, Hand, Observer, Phase, Tally};
use candle::{DType, Tensor, TensorId};
use sokd_core::{Error, Result, Step, Terms, streams_begun};
use sokd_nn::{Moment, Params};
use sokd_ops::{Replay, capture, rehearse, replays};
use std::collections::{BTreeMap, BTreeSet};

/// Takes the steps of a run, one after another.
///
/// A small network keeps a GPU waiting for whoever tells it operation by operation. So where a phase would tell it the same in a
/// step as in its last, that is written down (a CUDA graph), and from then on told at one word: in the same memory, to other
/// images, at the learning rate of the moment. That holds for an epoch, through which whatever is scheduled stands still.
///
/// Once in each epoch, or pass of an interlude, a phase takes a step both ways from the same place: operation by operation, and as it was written down
/// elsewhere in the run and with another key. Only if both come to the same bits does it go on at one word; what depends on where
/// the run stands or on a number on this side is found out so, and told operation by operation as ever. What is drawn ahead, and
/// what a lens shows, is drawn and shown in every step anew, by each phase when the one before it has moved its weights.
pub struct Steps {
    params: Params,
    /// Phases, by their place, whose steps are not the same every time.
    change: BTreeSet<usize>,
    /// What is known of the steps of others, by their place and the sizes of batches.
    known: BTreeMap<(usize, Sizes), Known>,
}

/// Of the batch to learn from, and of a phase's own.
type Sizes = [Vec<usize>; 2];

/// What is known of the steps of a phase.
enum Known {
    /// The next of the last one's kind may tell the device the same.
    Steady(Kind),
    /// All of that kind do.
    Held(Kind, Box<Held>),
}

impl Known {
    fn holds_in(&self, epoch: usize) -> bool {
        let (Self::Steady(kind) | Self::Held(kind, _)) = self;
        kind.epoch == epoch
    }
}

/// Steps that may tell a device the same.
#[derive(Clone, Debug, PartialEq)]
struct Kind {
    epoch: usize,
    /// Where it is summed what they come to.
    sums: Vec<TensorId>,
}

impl Kind {
    fn of(phase: &Phase, at: &Step, tally: &Tally) -> Self {
        Self { epoch: at.epoch, sums: tally.places(&phase.name) }
    }
}

/// A step that was written down, and the work that it is.
struct Held {
    fixed: Fixed,
    replay: Replay,
}

/// A step of a phase in memory of its own.
struct Fixed {
    /// How many images it counts for.
    images: usize,
    /// Where it looks for what it sees.
    seen: Hand<'static>,
    /// Where it leaves what it says.
    said: Terms,
    /// Which step it takes itself for.
    at: Step,
}

/// So far from where a run stands is a step that is written down.
const ELSEWHERE: u64 = 1 << 40;

impl Steps {
    /// Of phases that move these weights.
    pub fn new(params: Params) -> Self {
        Self { params, change: BTreeSet::new(), known: BTreeMap::new() }
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
        self.known.retain(|_, known| known.holds_in(at.epoch));
        let at = Step { settled: !phases.iter().any(|phase| phase.searches_in(at.epoch)), ..at };
        for (index, phase) in phases.iter_mut().enumerate().filter(|(_, phase)| phase.due(&at)) {
            let lr = phase.lr.at(&now);
            self.act(distiller, (index, phase), hand, (at, None, lr), tally, watch)?;
        }
        Ok(())
    }

    /// Moves the weights of a phase once; in an interlude, `here` says where that stands.
    pub(crate) fn act(
        &mut self,
        distiller: &Distiller,
        (index, phase): (usize, &mut Phase),
        hand: &Hand<'_>,
        (at, here, lr): (Step, Option<Moment>, f64),
        tally: &mut Tally,
        watch: &mut [Box<dyn Observer>],
    ) -> Result<()> {
        let sizes = [&hand.train, hand.of(phase.split)?].map(|shown| shown.batch.images.dims().to_vec());
        let kind = Kind::of(phase, &at, tally);
        let (said, known) = match self.known.remove(&(index, sizes.clone())) {
            Some(Known::Held(known, mut held)) if known == kind => {
                let Held { fixed, replay } = &mut *held;
                let drawn = phase.draw(distiller, hand, &at)?;
                fixed.seen.put(&drawn)?;
                phase.optimizer.aim(lr)?;
                replay.run(|| fixed.work(distiller, phase, tally))?;
                phase.carry(&drawn, &fixed.seen)?;
                (fixed.said.clone(), Some(Known::Held(kind, held)))
            }
            Some(Known::Steady(last)) if last == kind => {
                phase.optimizer.aim(lr)?;
                let (said, held) = self.write_down(distiller, phase, (hand, &at), tally)?;
                tell(phase, held.as_ref().map(drop), watch)?;
                (said, held.ok().map(|held| Known::Held(kind, held)))
            }
            _ => {
                phase.act(distiller, hand, (at, here, lr), tally, watch)?;
                let could = replays(hand.train.batch.images.device()) && hand.world.is_alone();
                if !could || self.change.contains(&index) {
                    return Ok(());
                }
                if let Some(why) = changes(phase) {
                    self.change.insert(index);
                    return tell(phase, Err(&why), watch);
                }
                self.known.insert((index, sizes), Known::Steady(Kind::of(phase, &at, tally)));
                return Ok(());
            }
        };
        phase.finish((&at, here, lr), (hand.of(phase.split)?.images()?, &said), tally, watch)?;
        match known {
            Some(known) => drop(self.known.insert((index, sizes), known)),
            None => drop(self.change.insert(index)),
        }
        Ok(())
    }

    /// Lets go of what is held for a phase.
    pub(crate) fn release(&mut self, index: usize) {
        self.known.retain(|(phase, _), _| *phase != index);
    }

    /// Takes a step operation by operation; then once more from the same place, as it is written down. What the phase says, and
    /// what was written down, or why nothing was: the step is taken either way.
    fn write_down(
        &self,
        distiller: &Distiller,
        phase: &mut Phase,
        (hand, at): (&Hand<'_>, &Step),
        tally: &mut Tally,
    ) -> Result<(Terms, Result<Box<Held>>)> {
        let (device, images) = (hand.train.batch.images.device(), hand.of(phase.split)?.images()?);
        let drawn = phase.draw(distiller, hand, at)?;
        let mut fixed = Fixed { images, seen: drawn.copy()?, said: Terms::default(), at: *at };
        let mut beside = tally.copy()?;
        let before = Moved::of(&self.params, phase)?;
        let begun = streams_begun();
        rehearse(device, || fixed.work(distiller, phase, &mut beside))?;
        phase.carry(&drawn, &fixed.seen)?;
        let said = fixed.said.clone();
        let replay = if streams_begun() != begun {
            Err(Error::setting("capture", "every step draws on its way"))
        } else if !beside.is_on(device, &phase.name) {
            Err(Error::setting("capture", "a term is told on this side"))
        } else {
            let after = Moved::of(&self.params, phase)?;
            before.restore(&self.params, phase)?;
            let drawn = phase.draw(distiller, hand, at)?;
            fixed.seen.put(&drawn)?;
            fixed.at = Step { index: at.index + ELSEWHERE, key: at.key.fold("elsewhere"), ..*at };
            let replay = self.as_written((&mut fixed, &drawn), distiller, phase, tally, (&after, &beside));
            if replay.is_err() {
                after.restore(&self.params, phase)?;
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
        (fixed, drawn): (&mut Fixed, &Hand<'_>),
        distiller: &Distiller,
        phase: &mut Phase,
        tally: &mut Tally,
        (after, beside): (&Moved, &Tally),
    ) -> Result<Replay> {
        let device = fixed.seen.train.batch.images.device().clone();
        let replay = capture(&device, || fixed.work(distiller, phase, tally))?;
        replay.run(|| fixed.work(distiller, phase, tally))?;
        phase.carry(drawn, &fixed.seen)?;
        if Moved::of(&self.params, phase)?.is(after)? && tally.sums()? == beside.sums()? {
            return Ok(replay);
        }
        Err(Error::setting("capture", "elsewhere in the run, a step comes to other numbers"))
    }
}

/// Lets all know how steps of a phase go on from here.
fn tell(
    phase: &Phase,
    outcome: std::result::Result<(), &Error>,
    watch: &mut [Box<dyn Observer>],
) -> Result<()> {
    watch.iter_mut().try_for_each(|observer| observer.captured(&phase.name, outcome))
}

impl Fixed {
    /// What a device does in a step of a phase that was aimed.
    fn work(&mut self, distiller: &Distiller, phase: &mut Phase, tally: &mut Tally) -> Result<()> {
        self.said = phase.advance(distiller, (self.images, &self.seen.anew()), &self.at, tally)?;
        Ok(())
    }
}

/// Why the next step of a phase tells a device something else than its last, if that is plain.
fn changes(phase: &Phase) -> Option<Error> {
    let problem = if phase.focuses() && !phase.focuses_only() {
        "a lens learns, and more than it"
    } else if !phase.update.repeats() || !phase.optimizer.repeats() {
        "a step waits for a number"
    } else {
        return None;
    };
    Some(Error::setting("capture", problem))
}

/// All that a step moves, copied.
struct Moved {
    weights: Tensors,
    optimizer: Tensors,
}

impl Moved {
    fn of(params: &Params, phase: &Phase) -> Result<Self> {
        Ok(Self { weights: params.tensors("")?, optimizer: phase.optimizer.state()? })
    }

    fn restore(&self, params: &Params, phase: &mut Phase) -> Result<()> {
        params.load("", &self.weights)?;
        phase.optimizer.load_state(&self.optimizer)
    }

    /// Whether the other is the same to the bit, but for the signs of zeros. Memories may have millions of numbers, so it is the device
    /// that compares.
    fn is(&self, other: &Self) -> Result<bool> {
        for (own, other) in self.tensors().zip(other.tensors()) {
            let apart = own.ne(other)?.to_dtype(DType::F32)?.flatten_all()?;
            if apart.elem_count() > 0 && apart.max(0)?.to_scalar::<f32>()? != 0.0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.weights.values().chain(self.optimizer.values())
    }
}
