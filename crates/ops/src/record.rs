//! Results that were computed already, entered into candle's graph.
//!
//! Candle adds each gradient that an operation returns to a map of zeros that it makes for the purpose: four passes
//! over memory for an edge of the graph, a tenth of a training step. Here the graph sees but a *token* of one float
//! for each result. The gradients of the result itself wait in an [`Inbox`], moved there by those who have them; when
//! candle comes to the token, whatever uses the result has been dealt with, and the inbox holds the whole.
//! Operations of candle's know nothing of it: their gradients arrive through [`Shown`].
//!
//! The graph holds what an operation goes back by (its arguments, its result, a map in between) until the backward pass has gone
//! through it, and no longer: memory falls as the pass goes, and a second pass over the same graph is an error.
//!
//! An operation of candle's has three arguments at most. Those beyond stand behind a token of their own, for which their
//! gradients wait as well: a [`graph::Rest`].

mod graph;

use crate::gpu::Gpu;
use crate::kernels::sum;
use crate::simd::simd;
use crate::spent::spend;
use candle::op::BackpropOp;
use candle::{CpuStorage, Result, Shape, Storage, Tensor};
use graph::{Inbox, Known, Shown, enter, table};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How gradients pass back through an operation on `N` tensors.
pub(crate) trait Backward<const N: usize>: Send + Sync + 'static {
    /// What errors call it.
    const NAME: &'static str;

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
    let there = |gpu: &Gpu| gpu.each("total", [a, b], a.elem_count(), []);
    compute([a, b], |[a, b]| sum(simd(), a, b), there)
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
    let known = arguments.map(Known::of);
    let nodes = std::array::from_fn::<_, N, _>(|index| {
        known[index].as_ref().map_or(arguments[index], |known| &known.token)
    });
    let (inbox, own) = (Arc::<Inbox>::default(), Arc::<OnceLock<Tensor>>::default());
    let inboxes = known.each_ref().map(|known| known.as_ref().map(|known| Arc::clone(&known.inbox)));
    let work = Work {
        arguments: arguments.map(Tensor::clone),
        inbox: Arc::clone(&inbox),
        result: Arc::clone(&own),
        back,
    };
    // What the way back reads is free as soon as it has been gone.
    let work = Mutex::new(Some(work));
    let gradients = move || {
        let Some(work) = work.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            candle::bail!(
                "a backward pass went through this {} before, and took the graph apart: another needs the result \
                 computed anew",
                B::NAME
            )
        };
        work.gradients().map(Vec::from)
    };
    let token = enter(B::NAME, &nodes, &inboxes, Box::new(gradients))?;
    let known = Arc::new(Known { token, inbox, result: OnceLock::new() });
    let shown = Shown { result: Mutex::new(Some((result.storage(), shape))), known: Arc::clone(&known) };
    let y = known.token.apply_op1(shown)?;
    // The same floats on no graph: a result must not keep itself alive.
    let _ = own.set(y.detach());
    let _ = known.result.set(y.id());
    table().insert(y.id(), Arc::downgrade(&known));
    Ok(y)
}

/// What an operation goes back by.
struct Work<const N: usize, B> {
    arguments: [Tensor; N],
    inbox: Arc<Inbox>,
    result: Arc<OnceLock<Tensor>>,
    back: B,
}

impl<const N: usize, B: Backward<N>> Work<N, B> {
    fn gradients(&self) -> Result<[Option<Tensor>; N]> {
        let Some(result) = self.result.get() else { candle::bail!("{} has no result yet", B::NAME) };
        let gradient = self.inbox.take()?;
        let back = || self.back.gradients(self.arguments.each_ref(), result, &gradient);
        spend(|| (format!("gradient of {}", B::NAME), 0), back)
    }
}

#[cfg(test)]
mod tests;
