#![doc = include_str!("../README.md")]

mod backbone;
mod catalog;
mod data;
mod distill;
mod error;
pub mod file;
mod key;
mod lens;
mod terms;

pub use backbone::{Backbone, BackboneInfo, Forward, Head, Mode, PixelNorm, Stage, StageInfo};
pub use catalog::{Build, BuildCx, misfit};
pub use data::{Area, Batch, Batches, Dataset, DatasetInfo, LearnSplit, Split};
pub use distill::{DistillLoss, Feature, Pair, Refined, Refiner, Side, Step};
pub use error::{Error, Result};
pub use key::{Key, Stream};
pub use lens::Lens;
pub use terms::{Term, Terms};

#[doc(hidden)]
pub mod __private {
    pub use crate::catalog::{kebab, part, tagged, unknown};
    pub use schemars;
    pub use serde;
}
