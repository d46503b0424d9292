//! Images in [0, 1], changed as the bytes that they are: where a GPU has them, which so need not wait for this side.

use crate::backend::gpu_for;
use crate::gpu::{Arg, Gpu};
use crate::record;
use candle::Tensor;
use sokd_core::Result;

/// 255 less each byte; `None` where no GPU's kernels run. No gradient passes.
///
/// # Shapes
/// `images`: `(batch, height, width, channels)`, and the same again.
pub fn inverted(images: &Tensor) -> Result<Option<Tensor>> {
    let images = images.detach().contiguous()?;
    let Some(gpu) = gpu_for(&[&images]) else { return Ok(None) };
    let made = gpu.each("inverted", [&images], images.elem_count(), [])?;
    Ok(Some(record::tensor(made, images.shape())))
}

/// The bytes of each channel of each image spread evenly; `None` where no GPU's kernels run. No gradient passes.
///
/// # Shapes
/// `images`: `(batch, height, width, channels)`, and the same again.
///
/// # Source
/// torchvision's `equalize`, on tensors of bytes.
pub fn equalized(images: &Tensor) -> Result<Option<Tensor>> {
    let (batch, height, width, channels) = images.dims4()?;
    let images = images.detach().contiguous()?;
    let Some(gpu) = gpu_for(&[&images]) else { return Ok(None) };
    let mut made = gpu.room(images.elem_count())?;
    let sizes = [batch * channels, height * width, channels];
    let mut args = vec![Arg::from(&images), Arg::Write(&mut made)];
    args.extend(sizes.map(Arg::Int));
    gpu.launch("equalized", Gpu::blocks(batch * channels, 1), args)?;
    Ok(Some(record::tensor(made, images.shape())))
}
