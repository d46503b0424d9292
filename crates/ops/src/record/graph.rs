//! What candle's graph holds of our operations: tokens, and where gradients wait for them.

use super::kept::Again;
use super::sum_of_gradients;
use candle::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, TensorId,
};
#[cfg(feature = "cuda")]
use candle::{CudaDevice, CudaStorage};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Of each argument, when the whole gradient of the result is there.
pub(super) type Gradients = Box<dyn Fn() -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// The token of an operation on these nodes of the graph, whose gradients, when they are asked for, are `gradients`.
pub(super) fn enter(
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

/// Where tokens of what a device computes are: on a GPU, on a stream of their own. What candle does with them there (it adds each to
/// zeros) keeps no kernel waiting, and is no part of a step that is written down.
#[cfg_attr(
    not(feature = "cuda"),
    expect(clippy::unnecessary_wraps, reason = "a GPU may have no other stream")
)]
pub(super) fn tokens_of(device: &Device) -> Result<Device> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::gpu::aside(device).map(Device::Cuda),
        device => Ok(device.clone()),
    }
}

/// Who stands in an operation's node for an argument that is no result of ours: on a GPU a token, whose gradient waits for it in an
/// inbox; elsewhere the argument itself.
pub(super) fn stand_in(argument: &Tensor) -> Result<(Tensor, Option<Arc<Inbox>>)> {
    if !argument.device().is_cuda() {
        return Ok((argument.clone(), None));
    }
    let inbox = Arc::<Inbox>::default();
    Ok((argument.apply_op1(StandIn(Arc::clone(&inbox)))?, Some(inbox)))
}

/// Where the gradient of a result gathers.
#[derive(Default)]
pub(super) struct Inbox(Mutex<Option<Tensor>>);

impl Inbox {
    /// Adds a part; whether it is the first.
    fn put(&self, part: Tensor) -> Result<bool> {
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = gathered.is_none();
        *gathered = Some(match gathered.take() {
            None => part,
            // A new tensor, because others may hold the one that is there.
            Some(other) => sum_of_gradients(&other, &part)?,
        });
        Ok(is_first)
    }

    /// What is there so far, for someone who adds to it.
    pub(super) fn gathered(&self) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The whole.
    pub(super) fn take(&self) -> Result<Tensor> {
        let Some(gradient) = self.gathered() else {
            candle::bail!("a backward pass came to a result without a gradient")
        };
        gradient.contiguous()
    }
}

/// The gradients of an operation's arguments beyond the second, until their token's turn.
#[derive(Default)]
pub(super) struct Rest(Mutex<Option<Vec<Option<Tensor>>>>);

impl Rest {
    fn put(&self, gradients: Vec<Option<Tensor>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(gradients);
    }

    fn take(&self) -> Result<Vec<Option<Tensor>>> {
        let gradients = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        gradients
            .ok_or_else(|| candle::Error::Msg("a backward pass came to arguments without gradients".into()))
    }
}

/// What stands in the graph for a result of ours.
pub(super) struct Known {
    pub token: Tensor,
    pub inbox: Arc<Inbox>,
    pub result: OnceLock<TensorId>,
    /// Who makes it once more, where it is not kept.
    pub again: Option<Weak<dyn Again>>,
}

/// The results of ours that are on a graph still.
static TABLE: LazyLock<Mutex<HashMap<TensorId, Weak<Known>>>> = LazyLock::new(Mutex::default);

pub(super) fn table() -> MutexGuard<'static, HashMap<TensorId, Weak<Known>>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// That of `tensor`, if it is such a result.
    pub(super) fn of(tensor: &Tensor) -> Option<Arc<Self>> {
        // The table is free again when what was found is dropped.
        let found = table().get(&tensor.id()).map(Weak::upgrade);
        found.flatten()
    }

    /// A tensor of the result's numbers.
    pub(super) fn shows(self: &Arc<Self>, numbers: Storage, shape: Shape) -> Result<Tensor> {
        let result = Mutex::new(Some((numbers, shape)));
        self.token.apply_op1(Shown { result, known: Arc::clone(self) })
    }

    /// The result's numbers, made once more.
    pub(super) fn made(&self) -> Result<Storage> {
        match self.again.as_ref().and_then(Weak::upgrade) {
            Some(operation) => operation.numbers(),
            None => candle::bail!("a result that is not made again was asked for"),
        }
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
    fn token_on(device: &CudaDevice) -> Result<(CudaStorage, Shape)> {
        // SAFETY: nobody reads it.
        let token = unsafe { device.alloc::<f32>(1)? };
        Ok((CudaStorage::wrap_cuda_slice(token, device.clone()), Shape::from(1)))
    }

    /// What candle is told: of a result of ours, that there is a gradient; of others, which.
    fn gradients<const N: usize>(&self, nodes: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
        let mut told = [const { None }; N];
        let gradients = (self.gradients)()?.into_iter().zip(&self.inboxes);
        for (told, (node, (gradient, inbox))) in told.iter_mut().zip(nodes.into_iter().zip(gradients)) {
            *told = match (gradient, inbox) {
                (Some(gradient), Some(inbox)) => {
                    // Nobody reads it, and candle adds up what it is told: it is told once.
                    inbox.put(gradient)?.then(|| node.detach())
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
        Self::token_on(&a.device)
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
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Self::token_on(&a.device)
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
        Self::token_on(&a.device)
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

/// A token for what is no result of ours.
struct StandIn(Arc<Inbox>);

impl CustomOp1 for StandIn {
    fn name(&self) -> &'static str {
        "argument"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(Recorded::token())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, argument: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        Recorded::token_on(&crate::gpu::aside(&argument.device)?)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        self.0.take().map(Some)
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
        Ok(self.known.inbox.put(gradient.clone())?.then(|| token.detach()))
    }
}
