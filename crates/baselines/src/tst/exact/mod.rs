//! The operations as they are, on bytes: what encoders imitate, and what has no strength to learn.
//!
//! # Source
//! torchvision's functional transforms on tensors of bytes, which TST's released code calls: arithmetic in single
//! precision, bytes cut off rather than rounded, the nearest pixel, zeros outside.

mod color;
mod warp;

use super::Operation;
use candle::{DType, Device, Tensor};
use sokd_core::{Error, Result};
use sokd_ops::{equalized, inverted};

/// An operation at a strength (see [`Operation::strength`]) on one image.
///
/// # Shapes
/// `image`: `(height, width, 3)` in rows, and the same again.
///
/// # Errors
/// [`Error::Setting`] for [`Operation::Cutout`], which is a matter of the whole batch.
pub fn apply(operation: Operation, strength: f64, image: &[u8], size: [usize; 2]) -> Result<Vec<u8>> {
    Ok(match operation {
        Operation::Brightness => color::brightness(image, 1.0 + strength),
        Operation::Color => color::saturation(image, 1.0 + strength),
        Operation::Contrast => color::contrast(image, 1.0 + strength),
        Operation::Sharpness => color::sharpness(image, 1.0 + strength, size),
        Operation::Posterize => color::posterize(image, strength as u32),
        Operation::Solarize => color::solarize(image, strength),
        Operation::Equalize => color::equalize(image),
        Operation::Invert => image.iter().map(|byte| 255 - byte).collect(),
        Operation::ShearX => warp::shear_x(image, strength, size),
        Operation::ShearY => warp::shear_y(image, strength, size),
        Operation::TranslateX => warp::translate(image, [0.0, strength], size),
        Operation::TranslateY => warp::translate(image, [strength, 0.0], size),
        Operation::Rotate => warp::rotate(image, strength, size),
        Operation::Cutout => return Err(Error::setting("cutout", "it has no form for a single image")),
    })
}

/// An operation at a strength on images in [0, 1], through bytes; no gradient passes. Two that have no strength are a GPU's own, which
/// so does not wait.
///
/// # Shapes
/// `(batch, height, width, 3)`, and the same again.
pub fn apply_all(operation: Operation, strength: f64, images: &Tensor) -> Result<Tensor> {
    let (_, height, width, _) = images.dims4()?;
    let there = match operation {
        Operation::Equalize => equalized(images)?,
        Operation::Invert => inverted(images)?,
        _ => None,
    };
    if let Some(images) = there {
        return Ok(images);
    }
    let numbers = images.detach().to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
    let mut out = Vec::with_capacity(numbers.len());
    for image in numbers.chunks_exact(height * width * 3) {
        // Half up, as the released code rounds.
        let bytes: Vec<u8> = image.iter().map(|pixel| (pixel * 255.0 + 0.5).floor() as u8).collect();
        let changed = apply(operation, strength, &bytes, [height, width])?;
        out.extend(changed.into_iter().map(|byte| f32::from(byte) / 255.0));
    }
    let out = Tensor::from_vec(out, images.shape(), &Device::Cpu)?;
    Ok(out.to_device(images.device())?.to_dtype(DType::F32)?)
}
