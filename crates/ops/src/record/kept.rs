//! What the graph keeps of an operation until it goes back through it.

use super::graph::{Inbox, Known};
use super::{Backward, Numbers, Remake};
use crate::spent::spend;
use candle::op::BackpropOp;
use candle::{Result, Shape, Storage, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// An argument or a result, for the way back.
pub(super) enum Kept {
    /// Itself, or its shape alone.
    Tensor(Tensor),
    /// Made once more, by the operation whose result it is.
    Again(Arc<dyn Again>),
}

/// An operation that makes its result once more.
pub(super) trait Again: Send + Sync {
    /// With `keep`, it stays until its own operation has been gone back through: whoever else asks on the way back has asked
    /// by then.
    fn again(&self, keep: bool) -> Result<Tensor>;

    /// For someone who has it for himself.
    fn numbers(&self) -> Result<Storage>;

    fn shape(&self) -> &Shape;
}

impl Kept {
    /// With its numbers.
    pub fn numbers(tensor: &Tensor, known: Option<&Known>) -> Self {
        let again = known.and_then(|known| known.again.as_ref()).and_then(Weak::upgrade);
        again.map_or_else(|| Self::Tensor(tensor.clone()), Self::Again)
    }

    /// Its shape, and whether it is tracked.
    pub fn shape(tensor: &Tensor) -> Result<Self> {
        Self::standing(tensor.shape(), tensor.track_op()).map(Self::Tensor)
    }

    /// One number, seen everywhere.
    pub fn standing(shape: &Shape, tracked: bool) -> Result<Tensor> {
        standing(vec![0.0].storage(), (), tracked).broadcast_as(shape)
    }

    fn tensor(&self, keep: bool) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Again(operation) => operation.again(keep),
        }
    }

    /// Where nobody reads the numbers.
    fn shaped(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Again(operation) => Self::standing(operation.shape(), true),
        }
    }
}

/// A tensor that is nobody's result; tracked, if it stands for one that is.
fn standing(numbers: Storage, shape: impl Into<Shape>, tracked: bool) -> Tensor {
    Tensor::from_storage(numbers, shape, BackpropOp::none(), tracked)
}

/// What an operation goes back by.
pub(super) struct Work<const N: usize, B> {
    inbox: Arc<Inbox>,
    /// Where the gradient of the first argument gathers, if that is a result of ours.
    first: Option<Arc<Inbox>>,
    shape: Shape,
    /// Until the backward pass has gone it.
    way: Mutex<Option<Way<N, B>>>,
    /// The result, once it was made again.
    made: Mutex<Option<Tensor>>,
}

struct Way<const N: usize, B> {
    arguments: [Kept; N],
    /// Nothing, where it is made again.
    result: Option<Kept>,
    back: B,
    again: Option<Remake<B, N>>,
}

impl<const N: usize, B: Backward<N>> Work<N, B> {
    pub fn new(
        arguments: [Kept; N],
        shape: Shape,
        (inbox, first): (Arc<Inbox>, Option<Arc<Inbox>>),
        (back, again): (B, Option<Remake<B, N>>),
    ) -> Self {
        let way = Way { arguments, result: None, back, again };
        Self { inbox, first, shape, way: Mutex::new(Some(way)), made: Mutex::default() }
    }

    pub fn keep_result(&self, result: Kept) {
        if let Some(way) = &mut *open(&self.way) {
            way.result = Some(result);
        }
    }

    /// Goes back, once: what the way back reads is free then.
    pub fn gradients(&self) -> Result<[Option<Tensor>; N]> {
        let (way, made) = (open(&self.way).take(), open(&self.made).take());
        let way = way.ok_or_else(Self::gone)?;
        let gradient = self.inbox.take()?;
        let back = || {
            let result = match (&way.result, made) {
                (Some(kept), _) => kept.tensor(true)?,
                (None, Some(made)) => made,
                (None, None) => self.standing(way.make(true)?),
            };
            let arguments = way.arguments(way.back.reads().0, true)?;
            // Whoever cannot add to it leaves it there.
            let before = B::onto().and_then(|onto| Some((onto, self.first.as_ref()?.gathered()?)));
            match before {
                Some((onto, before)) => {
                    onto(&way.back, arguments.each_ref(), &result, [&gradient, &before.contiguous()?])
                }
                None => way.back.gradients(arguments.each_ref(), &result, &gradient),
            }
        };
        spend(|| (format!("gradient of {}", B::NAME), 0), back)
    }

    fn remade(&self, keep: bool) -> Result<Storage> {
        let way = open(&self.way);
        way.as_ref().ok_or_else(Self::gone)?.make(keep)
    }

    fn standing(&self, numbers: Storage) -> Tensor {
        standing(numbers, &self.shape, true)
    }

    fn gone() -> candle::Error {
        candle::Error::Msg(format!(
            "a backward pass went through this {} before, and took the graph apart: another needs the result computed anew",
            B::NAME
        ))
    }
}

impl<const N: usize, B: Backward<N>> Way<N, B> {
    /// Of those that someone `reads` with their numbers.
    fn arguments(&self, reads: [bool; N], keep: bool) -> Result<[Tensor; N]> {
        let mut arguments = Vec::with_capacity(N);
        for (kept, reads) in self.arguments.iter().zip(reads) {
            arguments.push(if reads { kept.tensor(keep)? } else { kept.shaped()? });
        }
        Ok(arguments.try_into().expect("as many as there were"))
    }

    /// The result, once more. `keep`: what is made for that on the way.
    fn make(&self, keep: bool) -> Result<Storage> {
        let Some(Remake { reads, make }) = &self.again else {
            candle::bail!("{} has no result any more", B::NAME)
        };
        let arguments = self.arguments(*reads, keep)?;
        spend(|| (format!("{} again", B::NAME), 0), || make(&self.back, arguments.each_ref()))
    }
}

impl<const N: usize, B: Backward<N>> Again for Work<N, B> {
    fn again(&self, keep: bool) -> Result<Tensor> {
        let mut made = open(&self.made);
        if let Some(made) = &*made {
            return Ok(made.clone());
        }
        let result = self.standing(self.remade(keep)?);
        *made = keep.then(|| result.clone());
        Ok(result)
    }

    fn numbers(&self) -> Result<Storage> {
        self.remade(false)
    }

    fn shape(&self) -> &Shape {
        &self.shape
    }
}

fn open<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
