#![doc = include_str!("../README.md")]

mod backbone;
mod catalog;
mod contain;
mod data;
mod distill;
mod error;
pub mod file;
pub mod graft;
mod key;
mod lazy;
mod lens;
mod preview;
mod scope;
mod terms;

pub use backbone::{Backbone, BackboneInfo, Forward, Head, Mode, PixelNorm, Stage, StageInfo};
pub use catalog::{Build, BuildCx, misfit};
pub use contain::{contained, is_contained};
pub use data::{Area, Batch, Batches, Bytes, Dataset, DatasetInfo, LearnSplit, Split};
pub use distill::{DistillLoss, Feature, POLICY, Pair, Refined, Refiner, Side, Step};
pub use error::{Error, Result};
pub use graft::{Graft, Grafts, Place, Scion};
pub use key::{Key, Stream, streams_begun};
pub use lazy::Lazy;
pub use lens::{LENS, Lens};
pub use preview::{Preview, Watch};
pub use scope::scope;
pub use terms::{Cut, Term, Terms};

#[doc(hidden)]
pub mod __private {
    pub use crate::catalog::{joined, kebab, part, tagged, unknown, whole};
    pub use schemars;
    pub use serde;
}
