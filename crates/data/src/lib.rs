#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod augment;
#[cfg(feature = "candle-datasets")]
mod candle_datasets;
mod cifar;
mod content;
mod decode;
mod files;
mod fit;
mod hold;
mod idx;
mod image_folder;
mod images;
mod loader;
mod locations;
mod manifest;
mod memory;
mod pages;
mod parquet;
mod prefetch;
mod release;
mod resample;
mod resident;
mod resized_crop;
mod rotation;
mod shapes;
mod shelf;
mod spec;
mod tiny_imagenet;
mod unpacked;
mod verify;

#[cfg(feature = "candle-datasets")]
pub use self::candle_datasets::upright;
pub use augment::{Augment, Margin};
pub use cifar::{Cifar, Cifar10, Cifar100};
pub use fit::Fit;
pub use idx::Idx;
pub use image_folder::ImageFolder;
pub use images::Images;
pub use loader::{Loader, Sequential};
pub use locations::{DATA_DIR, Locations};
pub use manifest::{Entry, ForUse, Form, Manifest, Statistics};
pub use memory::Memory;
pub use resized_crop::ResizedCrop;
pub use rotation::rotated;
pub use shapes::Shapes;
pub use spec::{DataSpec, Source};
pub use tiny_imagenet::TinyImagenet;
pub use verify::{Check, Report, Verdict, verify};
