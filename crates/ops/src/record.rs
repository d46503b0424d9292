//! Results that were computed already, entered into candle's graph.
//!
//! Candle adds each gradient that an operation returns to a map of zeros that it makes for the purpose: four passes
//! over memory for an edge of the graph, a tenth of a training step. Here the graph sees but a *token* of one float
//! for each result. The gradients of the result itself wait in an [`Inbox`], moved there by those who have them; when
//! candle comes to the token, whatever uses the result has been dealt with, and the inbox holds the whole.
//! Operations of candle's know nothing of it: their gradients arrive through [`Shown`].
//!
//! An operation of candle's has three arguments at most. Those beyond stand behind a token of their own, for which their
//! gradients wait as well: a [`Rest`].

use crate::gpu::Gpu;
use crate::kernels::sum;
use crate::simd::simd;
use candle::op::BackpropOp;
#[cfg(feature = "cuda")]
use candle::CudaStorage;
use candle::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, TensorId,
};
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
    let nodes =
        std::array::from_fn::<_, N, _>(|index| known[index].as_ref().map_or(arguments[index], |known| &known.token));
    let (inbox, own) = (Arc::<Inbox>::default(), Arc::<OnceLock<Tensor>>::default());
    let inboxes = known.each_ref().map(|known| known.as_ref().map(|known| Arc::clone(&known.inbox)));
    let work = Work { arguments: arguments.map(Tensor::clone), inbox: Arc::clone(&inbox), result: Arc::clone(&own), back };
    let token = enter(B::NAME, &nodes, &inboxes, Box::new(move || work.gradients().map(Vec::from)))?;
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
        self.back.gradients(self.arguments.each_ref(), result, &self.inbox.take()?)
    }
}

/// Of each argument, when the whole gradient of the result is there.
type Gradients = Box<dyn Fn() -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// The token of an operation on these nodes of the graph, whose gradients, when they are asked for, are `gradients`.
fn enter(
    name: &'static str,
    nodes: &[&Tensor],
    inboxes: &[Option<Arc<Inbox>>],
    gradients: Gradients,
) -> Result<Tensor> {
    let inboxes = inboxes.to_vec();
    match *nodes {
        [a] => a.apply_op1(Recorded { name, inboxes, gradients }),
        [a, b] => a.apply_op2(b, Recorded { name, inboxes, gradients }),
        [a, b, c] => a.apply_op3(b, c, Recorded { name, inboxes, gradients }),
        [a, b, ..] => {
            let waiting = Arc::<Rest>::default();
            let rest = Arc::clone(&waiting);
            let rest = enter(name, &nodes[2..], &inboxes[2..], Box::new(move || rest.take()))?;
            let token = rest.detach();
            let gradients = Box::new(move || {
                let mut all = gradients()?;
                waiting.put(all.split_off(2));
                all.push(Some(token.clone()));
                Ok(all)
            });
            let inboxes = vec![inboxes[0].clone(), inboxes[1].clone(), None];
            a.apply_op3(b, &rest, Recorded { name, inboxes, gradients })
        }
        [] => candle::bail!("{name}: an operation on nothing"),
    }
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
                tensor(total(&other.contiguous()?, &part.contiguous()?)?, part.shape())
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

/// The gradients of an operation's arguments beyond the second, until their token's turn.
#[derive(Default)]
struct Rest(Mutex<Option<Vec<Option<Tensor>>>>);

impl Rest {
    fn put(&self, gradients: Vec<Option<Tensor>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradients);
    }

    fn take(&self) -> Result<Vec<Option<Tensor>>> {
        let gradients = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        gradients.ok_or_else(|| candle::Error::Msg("a backward pass came to arguments without gradients".into()))
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

/// An operation, as the graph knows it.
struct Recorded {
    name: &'static str,
    /// Of the arguments that are results of ours.
    inboxes: Vec<Option<Arc<Inbox>>>,
    gradients: Gradients,
}

impl Recorded {
    /// What the graph holds of the result.
    fn token() -> (CpuStorage, Shape) {
        (CpuStorage::F32(vec![0.0]), Shape::from(1))
    }

    #[cfg(feature = "cuda")]
    fn token_beside(argument: &CudaStorage) -> Result<(CudaStorage, Shape)> {
        let device = argument.device.clone();
        let token = device.alloc_zeros::<f32>(1)?;
        Ok((CudaStorage::wrap_cuda_slice(token, device), Shape::from(1)))
    }

    /// What candle is told: of a result of ours, that there is a gradient; of others, which.
    fn gradients<const N: usize>(&self, nodes: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
        let mut told = [const { None }; N];
        let gradients = (self.gradients)()?.into_iter().zip(&self.inboxes);
        for (told, (node, (gradient, inbox))) in told.iter_mut().zip(nodes.into_iter().zip(gradients)) {
            *told = match (gradient, inbox) {
                (Some(gradient), Some(inbox)) => {
                    inbox.put(gradient)?;
                    // Nobody reads it.
                    Some(node.detach())
                }
                (gradient, _) => gradient,
            };
        }
        Ok(told)
    }
}

impl CustomOp1 for Recorded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::token_beside(a)
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.gradients([a]).map(|[of_a]| of_a)
    }
}

impl CustomOp2 for Recorded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Self::token())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        Self::token_beside(a)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients([a, b]).map(Into::into)
    }
}

impl CustomOp3 for Recorded {
    fn name(&self) -> &'static str {
        self.name
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::token_beside(a)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients([a, b, c]).map(Into::into)
    }
}

/// A token's result, for whoever else uses it.
struct Shown {
    result: Mutex<Option<(Storage, Shape)>>,
    known: Arc<Known>,
}

impl Shown {
    /// The result. Candle asks once, at once.
    fn take(&self) -> Result<(Storage, Shape)> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.ok_or_else(|| candle::Error::Msg("a recorded result was asked for twice".into()))
    }
}

impl CustomOp1 for Shown {
    fn name(&self) -> &'static str {
        "result"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(numbers), shape) => Ok((numbers, shape)),
            _ => candle::bail!("a recorded result is on another device than its token"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(numbers), shape) => Ok((numbers, shape)),
            _ => candle::bail!("a recorded result is on another device than its token"),
        }
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.known.inbox.put(gradient.clone())?;
        // Nobody reads it.
        Ok(Some(token.detach()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Backward, Known, record, table};
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

    /// Its gradients are 1, 2, 3, .. times that of the result.
    struct Weighed;

    impl<const N: usize> Backward<N> for Weighed {
        const NAME: &'static str = "weighed";

        fn gradients(
            &self,
            _: [&Tensor; N],
            _: &Tensor,
            gradient: &Tensor,
        ) -> candle::Result<[Option<Tensor>; N]> {
            let mut gradients = [const { None }; N];
            for (index, place) in gradients.iter_mut().enumerate() {
                *place = Some((gradient * (index + 1) as f64)?);
            }
            Ok(gradients)
        }
    }

    #[test]
    fn an_operation_may_have_any_number_of_arguments() {
        let vars: [Var; 7] = std::array::from_fn(|index| var(&[index as f32, 1.0]));
        // Some of them results of ours, some on no graph.
        let results = vars.each_ref().map(|var| relu(var).unwrap());
        let fixed = vars[5].detach();
        let arguments = [&vars[0], &results[1], &results[2], &vars[3], &results[4], &fixed, &results[6]];
        let y = record(arguments, vec![1.0, 2.0], 2, Weighed).unwrap();
        let loss = (y + &results[4]).unwrap().sum_all().unwrap();
        for pass in 0..2 {
            let gradients = loss.backward().unwrap();
            let right = [1.0, 2.0, 3.0, 4.0, 5.0 + 1.0, 0.0, 7.0];
            for (index, (var, right)) in vars.iter().zip(right).enumerate() {
                let of_var = gradients.get(var).map_or(vec![0.0; 2], values);
                assert_eq!(of_var[1], right, "argument {index}, pass {pass}");
            }
        }
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
