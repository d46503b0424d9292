#![doc = include_str!("../README.md")]

mod conv;
pub mod init;
mod layout;
mod linear;
mod norm;
mod params;

pub use conv::Conv2d;
pub use layout::{from_torch, to_torch};
pub use linear::Linear;
pub use norm::{BatchNorm, ConvNorm};
pub use params::Params;
