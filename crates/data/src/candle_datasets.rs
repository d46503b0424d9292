//! Sets that candle-datasets has read. Ours are the default: it weighs 335 packages, and turns CIFAR's images on their side.

use crate::{Images, Memory};
use candle::{DType, Device, Tensor};
use candle_datasets::vision::Dataset;
use sokd_core::{Error, Result};

impl Memory {
    /// A set of candle-datasets, such as `mnist::load()` gives. Grey becomes three equal channels, classes are called by
    /// their numbers, and statistics are those of the training images. What `cifar::load()` gives wants [`upright`] first.
    ///
    /// # Shapes
    /// Images `(images, height, width)`, `(images, side · side)` where they are grey, or `(images, channels, height, width)` with
    /// one channel or three, in [0, 1]; labels `(images,)`.
    ///
    /// # Errors
    /// [`Error::Setting`] for other shapes, values that are no bytes divided by 255, and labels without a class.
    ///
    /// # Example
    /// ```no_run
    /// let set = candle_datasets::vision::fashion_mnist::load()?;
    /// let data = sokd_data::Memory::adopt("fashion-mnist", &set)?;
    /// # Ok::<(), sokd_core::Error>(())
    /// ```
    pub fn adopt(name: &str, set: &Dataset) -> Result<Self> {
        let train = images(&format!("the training images of {name}"), &set.train_images, &set.train_labels)?;
        let test = images(&format!("the test images of {name}"), &set.test_images, &set.test_labels)?;
        let classes = (0..set.labels).map(|label| label.to_string()).collect();
        Self::new(name, classes, train.statistics(), train, test)
    }
}

/// The images of `candle_datasets::vision::cifar::load()` (0.11.1), which come as (images, channels, *width, height)*, the right
/// way up. A student hardly notices; a teacher that was trained on upright images does. Its `load_dir` is right.
///
/// # Errors
/// [`Error::Tensor`] for images without four axes.
pub fn upright(set: Dataset) -> Result<Dataset> {
    let turned = |images: Tensor| images.transpose(2, 3)?.contiguous();
    Ok(Dataset { train_images: turned(set.train_images)?, test_images: turned(set.test_images)?, ..set })
}

fn images(what: &str, pixels: &Tensor, labels: &Tensor) -> Result<Images> {
    let shape = pixels.dims();
    let square = |side: usize| side * side == shape[1];
    let (channels, size) = match *shape {
        [_, pixels] if square(pixels.isqrt()) => (1, [pixels.isqrt(); 2]),
        [_, height, width] => (1, [height, width]),
        [_, channels @ (1 | 3), height, width] => (channels, [height, width]),
        _ => {
            return Err(Error::setting(
                what,
                format!("{shape:?} are the axes of no grey or coloured images"),
            ));
        }
    };
    // (images, channels, height, width) → (images, height, width, 3)
    let lying = pixels.reshape((shape[0], channels, size[0], size[1]))?.permute((0, 2, 3, 1))?;
    let lying = if channels == 1 { lying.repeat((1, 1, 1, 3))? } else { lying };
    let values: Vec<f32> = lying.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    let byte = |value: f32| {
        let byte = (value * 255.0).round();
        ((0.0..=255.0).contains(&byte) && (value * 255.0 - byte).abs() < 1e-3).then_some(byte as u8)
    };
    let bytes: Option<Vec<u8>> = values.into_iter().map(byte).collect();
    let Some(pixels) = bytes else {
        return Err(Error::setting(
            what,
            "a value is no byte divided by 255: they are normalised, or augmented",
        ));
    };
    let labels = labels.to_dtype(DType::U32)?.to_device(&Device::Cpu)?.to_vec1()?;
    Ok(Images { pixels, labels, ..Images::of_size(size) })
}
