//! Mixed precision: maps in bfloat16, and all else in single precision: weights, statistics, sums, what losses read.
//!
//! A GPU has [kernels over maps of either type](crate::gpu). Elsewhere an operation on maps in bfloat16 is done in single
//! precision, and rounded: slower than without, and how all of it is tested.

use crate::Backend;
use crate::backend::backend;
use crate::gpu::{Gpu, Kernel};
use crate::record::{Backward, record, tensor};
use crate::spent::named;
use candle::{CpuStorage, DType, Storage, Tensor};
use half::bf16;
use sokd_core::{Result, scope};
use std::cell::Cell;

thread_local! {
    static MIXED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` in mixed precision, in this thread: convolutions round the map that they read to bfloat16 (on a GPU the weights
/// too, as they multiply), add in single precision, and round their result; and what comes of that stays in bfloat16, until it is
/// [widened](widen).
pub fn with_mixed_precision<R>(work: impl FnOnce() -> R) -> R {
    scope(&MIXED, true, work)
}

/// Whether a convolution of this map is one of a map in bfloat16.
pub(crate) fn is_mixed(x: &Tensor) -> bool {
    x.dtype() == DType::BF16 || (MIXED.get() && x.dtype() == DType::F32)
}

/// In bfloat16, if it is in single precision; its gradient comes back in that.
pub fn narrow(x: &Tensor) -> Result<Tensor> {
    cast(x, DType::F32, DType::BF16)
}

/// In single precision, if it is in bfloat16; its gradient goes back in that.
pub fn widen(x: &Tensor) -> Result<Tensor> {
    cast(x, DType::BF16, DType::F32)
}

/// What `work` makes of these in single precision; in bfloat16, if all of them were.
pub(crate) fn in_single<const N: usize>(
    tensors: [&Tensor; N],
    work: impl FnOnce([&Tensor; N]) -> Result<Tensor>,
) -> Result<Tensor> {
    if tensors.iter().all(|tensor| tensor.dtype() != DType::BF16) {
        return work(tensors);
    }
    let wide = tensors.iter().map(|tensor| widen(tensor)).collect::<Result<Vec<_>>>()?;
    let y = work(std::array::from_fn(|index| &wide[index]))?;
    if tensors.iter().all(|tensor| tensor.dtype() == DType::BF16) { narrow(&y) } else { Ok(y) }
}

fn cast(x: &Tensor, from: DType, to: DType) -> Result<Tensor> {
    if x.dtype() != from {
        return Ok(x.clone());
    }
    let device = x.device();
    let known = device.is_cpu() || (cfg!(feature = "cuda") && device.is_cuda());
    if backend() == Backend::Composed || !known || x.elem_count() == 0 {
        return Ok(x.to_dtype(to)?);
    }
    let x = &x.contiguous()?;
    Ok(record([x], of_other_type(x)?, x.shape(), Cast)?)
}

/// The numbers of one type in the other.
fn of_other_type(x: &Tensor) -> candle::Result<Storage> {
    let (name, to) = match x.dtype() {
        DType::BF16 => ("widen", DType::F32),
        _ => ("narrow", DType::BF16),
    };
    named(name, || match Gpu::of(&[x]) {
        Some(gpu) => {
            let mut room = gpu.room_of(to, x.elem_count())?;
            gpu.walk(Kernel::from(name).by_fours(), [x], &mut room, x.elem_count(), [])?;
            Ok(room)
        }
        None => here(x),
    })
}

fn here(x: &Tensor) -> candle::Result<Storage> {
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        candle::bail!("a tensor that is elsewhere or not contiguous");
    };
    Ok(Storage::Cpu(match storage {
        CpuStorage::BF16(numbers) => {
            CpuStorage::F32(numbers[start..end].iter().map(|x| x.to_f32()).collect())
        }
        CpuStorage::F32(numbers) => {
            CpuStorage::BF16(numbers[start..end].iter().map(|&x| bf16::from_f32(x)).collect())
        }
        _ => candle::bail!("numbers of neither type"),
    }))
}

/// The way back: to the other type again.
struct Cast;

impl Backward<1> for Cast {
    const NAME: &'static str = "precision";

    fn reads(&self) -> ([bool; 1], bool) {
        ([false], false)
    }

    fn gradients(
        &self,
        [x]: [&Tensor; 1],
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle::Result<[Option<Tensor>; 1]> {
        Ok([Some(tensor(of_other_type(gradient)?, x.shape()))])
    }
}
