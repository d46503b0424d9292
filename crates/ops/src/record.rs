//! Results that were computed already, entered into candle's graph.

use candle::op::BackpropOp;
use candle::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use std::sync::Mutex;

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

/// A result whose gradient candle will ask `back` for.
struct Recorded<B> {
    result: Mutex<Option<(Vec<f32>, Shape)>>,
    back: B,
}

impl<B> Recorded<B> {
    fn new(result: Vec<f32>, shape: impl Into<Shape>, back: B) -> Self {
        Self { result: Mutex::new(Some((result, shape.into()))), back }
    }

    /// Candle asks once, at once.
    fn hand_over(&self) -> Result<(CpuStorage, Shape)> {
        let result = self.result.lock().ok().and_then(|mut result| result.take());
        let Some((floats, shape)) = result else { candle::bail!("a recorded result was asked for twice") };
        Ok((CpuStorage::F32(floats), shape))
    }
}

/// Enters an operation on one tensor.
pub(crate) fn record1<B: Backward<1>>(
    argument: &Tensor,
    result: Vec<f32>,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    argument.apply_op1(Recorded::new(result, shape, back))
}

/// Enters an operation on two tensors.
pub(crate) fn record2<B: Backward<2>>(
    arguments: [&Tensor; 2],
    result: Vec<f32>,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    arguments[0].apply_op2(arguments[1], Recorded::new(result, shape, back))
}

/// Enters an operation on three tensors.
pub(crate) fn record3<B: Backward<3>>(
    arguments: [&Tensor; 3],
    result: Vec<f32>,
    shape: impl Into<Shape>,
    back: B,
) -> Result<Tensor> {
    arguments[0].apply_op3(arguments[1], arguments[2], Recorded::new(result, shape, back))
}

impl<B: Backward<1>> CustomOp1 for Recorded<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.hand_over()
    }

    fn bwd(&self, a: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.back.gradients([a], result, &gradient.contiguous()?).map(|[of_a]| of_a)
    }
}

impl<B: Backward<2>> CustomOp2 for Recorded<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.hand_over()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.back.gradients([a, b], result, &gradient.contiguous()?).map(Into::into)
    }
}

impl<B: Backward<3>> CustomOp3 for Recorded<B> {
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
        self.hand_over()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.back.gradients([a, b, c], result, &gradient.contiguous()?).map(Into::into)
    }
}
