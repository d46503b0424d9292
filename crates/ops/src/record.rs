//! Results that were computed already, entered into candle's graph.
//!
//! Candle adds each gradient that an operation returns to a map of zeros that it makes for the purpose: four passes
//! over memory for an edge of the graph, a tenth of a training step. Here the graph sees but a *token* of one float
//! for each result. The gradients of the result itself wait in an [`Inbox`], moved there by those who have them; when
//! candle comes to the token, whatever uses the result has been dealt with, and the inbox holds the whole.
//! Operations of candle's know nothing of it: their gradients arrive through [`Shown`].
//!
//! The graph holds what an operation goes back by until the backward pass has gone through it, and no longer: memory falls as
//! the pass goes, and a second pass over the same graph is an error. What no way back reads is not held at all, and a map
//! that costs but a pass over others which are held is made once more when someone asks for it ([`kept`]).
//!
//! An operation of candle's has three arguments at most. Those beyond stand behind a token of their own, for which their
//! gradients wait as well: a [`graph::Rest`].

mod graph;
mod kept;
mod leaves;

use crate::gpu::{Gpu, over, turn};
use crate::kernels::sum;
use crate::simd::simd;
use crate::spent::named;
use candle::op::BackpropOp;
use candle::{CpuStorage, DType, Result, Shape, Storage, Tensor};
use graph::{Gradients, Inbox, Known, enter, table};
use kept::{Again, Kept, Work};
pub use leaves::{backward, with_leaves_apart};
use std::sync::{Arc, OnceLock, Weak};

/// How an operation makes its result once more.
pub(crate) struct Remake<B, const N: usize> {
    /// Of which arguments it reads the numbers.
    pub reads: [bool; N],
    pub make: fn(&B, [&Tensor; N]) -> Result<Storage>,
}

/// How an operation finds its gradients, that of the first argument added to what others had of it: from the gradient of the
/// result, and from that.
pub(crate) type Onto<B, const N: usize> =
    fn(&B, [&Tensor; N], &Tensor, [&Tensor; 2]) -> Result<[Option<Tensor>; N]>;

/// How gradients pass back through an operation on `N` tensors.
pub(crate) trait Backward<const N: usize>: Sized + Send + Sync + 'static {
    /// What errors call it.
    const NAME: &'static str;

    /// The result anew, where it costs but a pass over what is kept anyway: it is not kept itself then. `remade`: which
    /// arguments are made again themselves, should it need them.
    fn again(_remade: [bool; N]) -> Option<Remake<Self, N>> {
        None
    }

    /// The way back where others have been to the first argument already, and to add to what they left costs no pass over
    /// memory of its own.
    fn onto() -> Option<Onto<Self, N>> {
        None
    }

    /// Of which arguments the numbers are read on the way back, and whether those of the result are; of the others it learns
    /// the shape, and whether they are tracked.
    fn reads(&self) -> ([bool; N], bool);

    /// The gradients of the arguments that are [tracked](Tensor::track_op), from that of the result.
    fn gradients(
        &self,
        arguments: [&Tensor; N],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; N]>;
}

/// Numbers, wherever a kernel has left them.
pub(crate) trait Numbers {
    /// As candle keeps them.
    fn storage(self) -> Storage;
}

impl Numbers for Vec<f32> {
    fn storage(self) -> Storage {
        Storage::Cpu(CpuStorage::F32(self))
    }
}

impl Numbers for Storage {
    fn storage(self) -> Storage {
        self
    }
}

/// A tensor on no graph.
pub(crate) fn tensor(numbers: impl Numbers, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(numbers.storage(), shape, BackpropOp::none(), false)
}

/// The floats of contiguous tensors, for as long as `work` takes.
pub(crate) fn read<const N: usize, R>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&[f32]; N]) -> R,
) -> Result<R> {
    let opened = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&opened) {
        let (Storage::Cpu(storage), Some((start, end))) = (&**storage, layout.contiguous_offsets()) else {
            candle::bail!("a kernel of this machine got a tensor that is elsewhere or not contiguous");
        };
        *slice = &storage.as_slice::<f32>()?[start..end];
    }
    Ok(work(slices))
}

/// Computes where the tensors are: here, or on a GPU.
pub(crate) fn compute<const N: usize>(
    tensors: [&Tensor; N],
    here: impl FnOnce([&[f32]; N]) -> Vec<f32>,
    there: impl FnOnce(&Gpu) -> Result<Storage>,
) -> Result<Storage> {
    match Gpu::of(&tensors) {
        Some(gpu) => there(&gpu),
        None => read(tensors, here).map(Numbers::storage),
    }
}

/// The sum of two tensors of one shape.
pub(crate) fn total(a: &Tensor, b: &Tensor) -> Result<Storage> {
    let there = |gpu: &Gpu| gpu.each(over(a, "total").by_fours(), [a, b], a.elem_count(), []);
    compute([a, b], |[a, b]| sum(simd(), a, b), there)
}

/// Of what two users of a result have to say to it, both of its type.
fn sum_of_gradients(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (a.contiguous()?, b.contiguous()?);
    if a.dtype() == DType::BF16 && Gpu::of(&[&a]).is_none() {
        return a.detach() + b.detach();
    }
    Ok(tensor(named("sum of gradients", || total(&a, &b))?, a.shape()))
}

/// Enters an operation.
pub(crate) fn record<const N: usize, B: Backward<N>>(
    arguments: [&Tensor; N],
    result: impl Numbers,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    let shape = shape.into();
    if !arguments.iter().any(|argument| argument.track_op()) {
        return Ok(tensor(result, shape));
    }
    let entered = Entered::new(arguments, &shape, back, B::again)?;
    let y = entered.known.shows(result.storage(), shape)?;
    entered.gives(&y)?;
    Ok(y)
}

/// Enters an operation on something tracked whose result nobody has seen, because what reads it was computed with it.
pub(crate) fn record_unseen<const N: usize, B: Backward<N>>(
    arguments: [&Tensor; N],
    shape: impl Into<Shape>,
    back: B,
    again: Remake<B, N>,
) -> Result<Unseen> {
    let shape = shape.into();
    let entered = Entered::new(arguments, &shape, back, |_| Some(again))?;
    let standing = Kept::standing(&shape, true)?;
    entered.gives(&standing)?;
    Ok(Unseen { standing, shape, known: entered.known })
}

/// A result that nobody has seen.
pub(crate) struct Unseen {
    /// What stands for it where only its place in the graph is asked for.
    pub standing: Tensor,
    shape: Shape,
    known: Arc<Known>,
}

impl Unseen {
    /// Makes it, as often as someone asks: until a backward pass has gone through it.
    pub fn tensor(&self) -> Result<Tensor> {
        self.known.shows(self.known.made()?, self.shape.clone())
    }
}

/// To which arguments an operation goes back by the graph: those that are tracked, but for weights that stand apart.
struct Nodes {
    tensors: Vec<Tensor>,
    inboxes: Vec<Option<Arc<Inbox>>>,
    gradients: Gradients,
}

impl Nodes {
    fn of<const N: usize>(
        arguments: [&Tensor; N],
        known: &[Option<Arc<Known>>; N],
        inboxes: &[Option<Arc<Inbox>>; N],
        gradients: Gradients,
    ) -> Result<Self> {
        let apart = arguments.map(|argument| leaves::is_apart(argument).then(|| argument.clone()));
        let on_graph = arguments.map(|argument| argument.track_op() && !leaves::is_apart(argument));
        let (mut tensors, mut their_inboxes) = (Vec::with_capacity(N), Vec::with_capacity(N));
        for index in (0..N).filter(|&index| on_graph[index]) {
            let (token, inbox) = match &known[index] {
                Some(known) => (known.token.clone(), inboxes[index].clone()),
                None => graph::stand_in(arguments[index])?,
            };
            tensors.push(token);
            their_inboxes.push(inbox);
        }
        let hangs = tensors.is_empty();
        if hangs {
            tensors.push(leaves::anchor(arguments[0].device())?);
            their_inboxes.push(None);
        }
        let gradients = Box::new(move || {
            let mut told = Vec::with_capacity(N);
            for (index, gradient) in gradients()?.into_iter().enumerate() {
                match (&apart[index], gradient) {
                    (Some(leaf), Some(gradient)) => leaves::gather(leaf, gradient)?,
                    (None, gradient) if on_graph[index] => told.push(gradient),
                    _ => {}
                }
            }
            if hangs {
                told.push(None);
            }
            // These are read before the way back is over.
            if told.iter().flatten().any(turn::is_put_off) {
                turn::settle()?;
            }
            Ok(told)
        });
        Ok(Self { tensors, inboxes: their_inboxes, gradients })
    }

    /// The token that stands in the graph for the result.
    fn enter(self, name: &'static str) -> Result<Tensor> {
        enter(name, &self.tensors.iter().collect::<Vec<_>>(), &self.inboxes, self.gradients)
    }
}

/// An operation on the graph.
struct Entered<const N: usize, B> {
    known: Arc<Known>,
    work: Arc<Work<N, B>>,
    reads_result: bool,
}

impl<const N: usize, B: Backward<N>> Entered<N, B> {
    fn new(
        arguments: [&Tensor; N],
        shape: &Shape,
        back: B,
        again: impl FnOnce([bool; N]) -> Option<Remake<B, N>>,
    ) -> Result<Self> {
        let known = arguments.map(Known::of);
        let inbox = Arc::<Inbox>::default();
        let inboxes = known.each_ref().map(|known| known.as_ref().map(|known| Arc::clone(&known.inbox)));
        let again =
            again(known.each_ref().map(|known| known.as_ref().is_some_and(|known| known.again.is_some())));
        let (reads, reads_result) = back.reads();
        let remake_reads = again.as_ref().map_or([false; N], |again| again.reads);
        let mut kept = Vec::with_capacity(N);
        for (index, (argument, known)) in arguments.into_iter().zip(&known).enumerate() {
            let reads = reads[index] || remake_reads[index];
            kept.push(if reads { Kept::numbers(argument, known.as_deref()) } else { Kept::shape(argument)? });
        }
        let kept = kept.try_into().unwrap_or_else(|_| unreachable!("as many as there are arguments"));
        let (first, is_made_again) = (inboxes.first().cloned().flatten(), again.is_some());
        let work = Arc::new(Work::new(kept, shape.clone(), (Arc::clone(&inbox), first), (back, again)));
        let again = is_made_again.then(|| Arc::downgrade(&work) as Weak<dyn Again>);
        let own = Arc::clone(&work);
        let gradients = Box::new(move || own.gradients().map(Vec::from));
        let token = Nodes::of(arguments, &known, &inboxes, gradients)?.enter(B::NAME)?;
        let known = Arc::new(Known { token, inbox, result: OnceLock::new(), again });
        Ok(Self { known, work, reads_result })
    }

    /// From now on, `result` is known for what it gave.
    fn gives(&self, result: &Tensor) -> Result<()> {
        if !self.reads_result {
            self.work.keep_result(Kept::shape(result)?);
        } else if self.known.again.is_none() {
            // The same floats on no graph: a result must not keep itself alive.
            self.work.keep_result(Kept::Tensor(result.detach()));
        }
        let _ = self.known.result.set(result.id());
        table().insert(result.id(), Arc::downgrade(&self.known));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
