use candle::{DType, Tensor};
use sokd_core::Result;
use std::cell::Cell;
use std::sync::LazyLock;

/// Which of the forms of an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The device's own kernels, where there are any for the tensors at hand; the composed form elsewhere.
    Fast,
    /// Plain candle operations: what a device without kernels of ours runs, and what the kernels are checked against.
    Composed,
}

static DEFAULT: LazyLock<Backend> = LazyLock::new(|| match std::env::var("SOKD_BACKEND") {
    Ok(name) if name == "composed" => Backend::Composed,
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
    /// Puts the former choice back even when `work` unwinds.
    struct Restore(Option<Backend>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.set(self.0);
        }
    }
    let _restore = Restore(CHOSEN.replace(Some(backend)));
    work()
}

/// Whether our CPU kernels take these tensors: all single precision, all in this machine's memory.
pub(crate) fn on_cpu(tensors: &[&Tensor]) -> bool {
    backend() == Backend::Fast && tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// Runs the form for these tensors, on contiguous ones.
pub(crate) fn either<const N: usize>(
    tensors: [&Tensor; N],
    fast: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
    composed: impl FnOnce([&Tensor; N]) -> candle::Result<Tensor>,
) -> Result<Tensor> {
    let held = tensors.iter().map(|tensor| tensor.contiguous()).collect::<candle::Result<Vec<_>>>()?;
    let tensors = std::array::from_fn(|index| &held[index]);
    // Of nothing, candle knows whether it is an error.
    let something = tensors.iter().all(|tensor| tensor.elem_count() > 0);
    Ok(if something && on_cpu(&tensors) { fast(tensors)? } else { composed(tensors)? })
}
