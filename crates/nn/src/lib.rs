#![doc = include_str!("../README.md")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a VarBuilder is a path: `vb.pp(..)` is handed on, as all over candle"
)]
#![cfg_attr(test, allow(clippy::float_cmp, reason = "what should be exact is compared exactly"))]

mod adapter;
mod clip;
mod conv;
mod ema;
pub mod init;
mod layer_norm;
mod layout;
mod linear;
mod norm;
pub mod optim;
mod params;
mod plateau;
pub mod schedule;

pub use adapter::{Adapter, Hint};
pub use clip::{clip_grad_norm, grad_norm};
pub use conv::{Conv2d, with_winograd};
pub use ema::Ema;
pub use layer_norm::LayerNorm;
pub use layout::{from_torch, to_torch};
pub use linear::Linear;
pub use norm::{BatchNorm, ConvNorm};
pub use optim::{Adam, Adamw, Groups, OptimSpec, Optimizer, Rule, Sgd};
pub use params::Params;
pub use plateau::Plateau;
pub use schedule::{LrSchedule, Moment};
