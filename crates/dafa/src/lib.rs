#![doc = include_str!("../README.md")]

mod ahead;
mod chosen;
mod dafa;
pub mod ops;
mod policy;
mod space;

pub use chosen::{Chosen, Drawn};
pub use dafa::{Dafa, Estimator, Stages, Through};
pub use policy::{Draw, Lots, Policy, Relaxed};
pub use space::Space;
