//! Results that were computed already, entered into candle's graph.
//!
//! Candle adds each gradient that an operation returns to a map of zeros that it makes for the purpose: four passes
//! over memory for an edge of the graph, a tenth of a training step. Here the graph sees but a *token* of one float
//! for each result. The gradients of the result itself wait in an [`Inbox`], moved there by those who have them; when
//! candle comes to the token, whatever uses the result has been dealt with, and the inbox holds the whole.
//! Operations of candle's know nothing of it: their gradients arrive through [`Shown`].

use crate::kernels::sum;
use crate::simd::simd;
use candle::op::BackpropOp;
use candle::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

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

/// A tensor on no graph.
pub(crate) fn tensor(floats: Vec<f32>, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cpu(CpuStorage::F32(floats)), shape, BackpropOp::none(), false)
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

/// Enters an operation on one tensor.
pub(crate) fn record1<B: Backward<1>>(
    argument: &Tensor,
    result: Vec<f32>,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    enter([argument], result, shape.into(), back, |[a], recorded| a.apply_op1(recorded))
}

/// Enters an operation on two tensors.
pub(crate) fn record2<B: Backward<2>>(
    arguments: [&Tensor; 2],
    result: Vec<f32>,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    enter(arguments, result, shape.into(), back, |[a, b], recorded| a.apply_op2(b, recorded))
}

/// Enters an operation on three tensors.
pub(crate) fn record3<B: Backward<3>>(
    arguments: [&Tensor; 3],
    result: Vec<f32>,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    enter(arguments, result, shape.into(), back, |[a, b, c], recorded| a.apply_op3(b, c, recorded))
}

fn enter<const N: usize, B: Backward<N>>(
    arguments: [&Tensor; N],
    result: Vec<f32>,
    shape: Shape,
    back: B,
    apply: impl FnOnce([&Tensor; N], Recorded<N, B>) -> Result<Tensor>,
) -> Result<Tensor> {
    if !arguments.iter().any(|argument| argument.track_op()) {
        return Ok(tensor(result, shape));
    }
    let known = arguments.map(Known::of);
    let nodes =
        std::array::from_fn(|index| known[index].as_ref().map_or(arguments[index], |known| &known.token));
    let (inbox, own) = (Arc::<Inbox>::default(), Arc::<OnceLock<Tensor>>::default());
    let recorded = Recorded {
        arguments: arguments.map(Tensor::clone),
        inboxes: std::array::from_fn(|index| known[index].as_ref().map(|known| Arc::clone(&known.inbox))),
        inbox: Arc::clone(&inbox),
        result: Arc::clone(&own),
        back,
    };
    let known = Arc::new(Known { token: apply(nodes, recorded)?, inbox, result: OnceLock::new() });
    let shown = Shown { result: Mutex::new(Some((result, shape))), known: Arc::clone(&known) };
    let y = known.token.apply_op1(shown)?;
    // The same floats on no graph: a result must not keep itself alive.
    let _ = own.set(y.detach());
    let _ = known.result.set(y.id());
    table().insert(y.id(), Arc::downgrade(&known));
    Ok(y)
}

/// Where the gradient of a result gathers.
#[derive(Default)]
struct Inbox(Mutex<Option<Tensor>>);

impl Inbox {
    /// Adds a part.
    fn put(&self, part: Tensor) -> Result<()> {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *gathered = Some(match gathered.take() {
            None => part,
            // A new tensor, because others may hold the one that is there.
            Some(other) => {
                let (a, b) = (other.contiguous()?, part.contiguous()?);
                tensor(read([&a, &b], |[a, b]| sum(simd(), a, b))?, part.shape())
            }
        });
        Ok(())
    }

    /// The whole.
    fn take(&self) -> Result<Tensor> {
        let gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(gradient) = gathered else {
            candle::bail!("a backward pass came to a result without a gradient")
        };
        gradient.contiguous()
    }
}

/// What stands in the graph for a result of ours.
struct Known {
    token: Tensor,
    inbox: Arc<Inbox>,
    result: OnceLock<TensorId>,
}

/// The results of ours that are on a graph still.
static TABLE: LazyLock<Mutex<HashMap<TensorId, Weak<Known>>>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, HashMap<TensorId, Weak<Known>>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// That of `tensor`, if it is such a result.
    fn of(tensor: &Tensor) -> Option<Arc<Self>> {
        // The table is free again when what was found is dropped.
        let found = table().get(&tensor.id()).map(Weak::upgrade);
        found.flatten()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(result) = self.result.get() {
            table().remove(result);
        }
    }
}

/// What a token's own gradient, which nobody reads, is made of.
fn nothing() -> Tensor {
    tensor(vec![0.0], 1)
}

/// An operation, as the graph knows it.
struct Recorded<const N: usize, B> {
    arguments: [Tensor; N],
    /// Of the arguments that are results of ours.
    inboxes: [Option<Arc<Inbox>>; N],
    inbox: Arc<Inbox>,
    result: Arc<OnceLock<Tensor>>,
    back: B,
}

impl<const N: usize, B: Backward<N>> Recorded<N, B> {
    fn token() -> (CpuStorage, Shape) {
        (CpuStorage::F32(vec![0.0]), Shape::from(1))
    }

    fn gradients(&self) -> Result<[Option<Tensor>; N]> {
        let Some(result) = self.result.get() else { candle::bail!("{} has no result yet", B::NAME) };
        let gradients = self.back.gradients(self.arguments.each_ref(), result, &self.inbox.take()?)?;
        let mut seen = [const { None }; N];
        for (seen, (gradient, inbox)) in seen.iter_mut().zip(gradients.into_iter().zip(&self.inboxes)) {
            *seen = match (gradient, inbox) {
                (Some(gradient), Some(inbox)) => {
                    inbox.put(gradient)?;
                    Some(nothing())
                }
                (gradient, _) => gradient,
            };
        }
        Ok(seen)
    }
}

impl<B: Backward<1>> CustomOp1 for Recorded<1, B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.gradients().map(|[of_a]| of_a)
    }
}

impl<B: Backward<2>> CustomOp2 for Recorded<2, B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients().map(Into::into)
    }
}

impl<B: Backward<3>> CustomOp3 for Recorded<3, B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients().map(Into::into)
    }
}

/// A token's result, for whoever else uses it.
struct Shown {
    result: Mutex<Option<(Vec<f32>, Shape)>>,
    known: Arc<Known>,
}

impl CustomOp1 for Shown {
    fn name(&self) -> &'static str {
        "result"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        // Candle asks once, at once.
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((floats, shape)) = result else { candle::bail!("a recorded result was asked for twice") };
        Ok((CpuStorage::F32(floats), shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.known.inbox.put(gradient.clone())?;
        Ok(Some(nothing()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, table};
    use crate::{abs, relu};
    use candle::{Device, Tensor, Var};

    fn var(values: &[f32]) -> Var {
        Var::new(values, &Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_vec1().unwrap()
    }

    /// Through our operations and candle's, more than once each.
    fn tangle(x: &Var) -> Tensor {
        let y = relu(x).unwrap();
        let ours = (abs(&y).unwrap() + relu(&y).unwrap()).unwrap();
        let candles = (y.sqr().unwrap() + y.reshape((1, ())).unwrap().flatten_all().unwrap()).unwrap();
        (ours + candles).unwrap().sum_all().unwrap()
    }

    #[test]
    fn every_user_of_a_result_adds_to_its_gradient() {
        let x = var(&[-1.0, 2.0, 3.0]);
        let loss = tangle(&x);
        // abs + relu + square + itself
        let right = [0.0, 3.0 + 4.0, 3.0 + 6.0];
        for pass in 0..3 {
            assert_eq!(values(loss.backward().unwrap().get(&x).unwrap()), right, "pass {pass}");
        }
    }

    #[test]
    fn a_result_that_candle_alone_uses_has_its_gradient() {
        let x = var(&[-1.0, 2.0]);
        let loss = relu(&x).unwrap().affine(3.0, 0.0).unwrap().sum_all().unwrap();
        assert_eq!(values(loss.backward().unwrap().get(&x).unwrap()), [0.0, 3.0]);
    }

    #[test]
    fn a_result_that_is_cut_off_has_none() {
        let x = var(&[-1.0, 2.0]);
        let y = relu(&x).unwrap();
        assert!(!abs(&y.detach()).unwrap().track_op());
        let loss = (abs(&y.detach()).unwrap() + &y).unwrap().sum_all().unwrap();
        assert_eq!(values(loss.backward().unwrap().get(&x).unwrap()), [0.0, 1.0]);
    }

    #[test]
    fn nothing_stays_behind() {
        let x = var(&[-1.0, 2.0]);
        let y = relu(&x).unwrap();
        let id = y.id();
        assert!(Known::of(&y).is_some());
        let z = abs(&y).unwrap();
        drop(y);
        assert!(table().contains_key(&id), "z needs it");
        drop(z);
        assert!(!table().contains_key(&id));
    }
}
