use crate::environment;
use crate::gpu::Gpu;
use crate::mixed::in_single;
use candle::{DType, Tensor};
use sokd_core::{Result, scope};
use std::cell::Cell;
use std::sync::LazyLock;

/// Which of the forms of an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The device's own kernels, where there are any for the tensors at hand; the composed form elsewhere.
    Fast,
    /// Plain candle operations: what a device without kernels of ours runs, and what the kernels are checked against.
    Composed,
    /// A GPU's kernels, compiled for this machine: slow, and how they are tested where there is no GPU.
    #[cfg(feature = "mirror")]
    Mirror,
}

static DEFAULT: LazyLock<Backend> = LazyLock::new(|| match environment::BACKEND.get() {
    "composed" => Backend::Composed,
    #[cfg(feature = "mirror")]
    "mirror" => Backend::Mirror,
    _ => Backend::Fast,
});

thread_local! {
    static CHOSEN: Cell<Option<Backend>> = const { Cell::new(None) };
}

/// The form that runs now, in this thread: [`Backend::Fast`], unless the environment says `SOKD_BACKEND=composed`.
pub fn backend() -> Backend {
    CHOSEN.get().unwrap_or(*DEFAULT)
}

/// Runs `work` with another choice, in this thread.
///
/// What `work` records for a backward pass keeps its form, whenever that pass runs.
pub fn with_backend<R>(backend: Backend, work: impl FnOnce() -> R) -> R {
    scope(&CHOSEN, Some(backend), work)
}

/// Whether kernels of ours take these tensors: all single precision, all in one memory that we have kernels for.
pub(crate) fn has_kernels(tensors: &[&Tensor]) -> bool {
    let device = tensors[0].device();
    let known = device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda());
    let ours = |tensor: &&Tensor| tensor.dtype() == DType::F32 && tensor.device().same_device(device);
    backend() != Backend::Composed && known && tensors.iter().all(ours)
}

/// The same of maps: a GPU has kernels over those in bfloat16 too.
pub(crate) fn has_map_kernels(maps: &[&Tensor]) -> bool {
    let device = maps[0].device();
    let ours = |map: &&Tensor| map.dtype() == DType::BF16 && map.device().same_device(device);
    has_kernels(maps) || (backend() != Backend::Composed && Gpu::of(maps).is_some() && maps.iter().all(ours))
}

/// Whether kernels of ours take maps of either type with weights in single precision.
pub(crate) fn has_kernels_for(maps: &[&Tensor], weights: &[&Tensor]) -> bool {
    has_map_kernels(maps) && has_kernels(weights) && maps[0].device().same_device(weights[0].device())
}

/// The GPU whose kernels take these tensors, if one has them.
pub(crate) fn gpu_for(tensors: &[&Tensor]) -> Option<Gpu> {
    Gpu::of(tensors).filter(|_| !tensors.is_empty() && has_kernels(tensors))
}

/// Whether they are this machine's own.
pub(crate) fn on_cpu(tensors: &[&Tensor]) -> bool {
    has_kernels(tensors) && Gpu::of(tensors).is_none()
}

static TF32: LazyLock<bool> = LazyLock::new(|| environment::TF32.get() == "1");

/// Whether convolutions on a GPU may round their factors to ten bits (TF32), as the environment says by `SOKD_TF32=1`.
/// PyTorch does it unasked.
pub fn tf32() -> bool {
    *TF32
}

/// Runs the form for these tensors, on contiguous ones; in single precision, where they are in bfloat16.
pub(crate) fn either<const N: usize>(
    tensors: [&Tensor; N],
    fast: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
    composed: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
) -> Result<Tensor> {
    in_single(tensors, |tensors| form(tensors, has_kernels(&tensors), fast, composed))
}

/// The same of an operation on maps, of which a GPU has a kernel over those in bfloat16 too.
pub(crate) fn either_of_maps<const N: usize>(
    maps: [&Tensor; N],
    fast: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
    composed: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
) -> Result<Tensor> {
    if has_map_kernels(&maps) { form(maps, true, fast, composed) } else { either(maps, fast, composed) }
}

fn form<const N: usize>(
    tensors: [&Tensor; N],
    has_kernels: bool,
    fast: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
    composed: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
) -> Result<Tensor> {
    let held = tensors.iter().map(|tensor| tensor.contiguous()).collect::<candle::Result<Vec<_>>>()?;
    let tensors = std::array::from_fn(|index| &held[index]);
    // Of nothing, candle knows whether it is an error.
    let something = tensors.iter().all(|tensor| tensor.elem_count() > 0);
    Ok(if something && has_kernels { fast(tensors)? } else { composed(tensors)? })
}
