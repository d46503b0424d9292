//! The loops behind the operations, on plain slices: channels last, single precision.
#![allow(
    clippy::needless_range_loop,
    clippy::int_plus_one,
    reason = "tiles are walked by pixel and vector, as they lie in registers; `x + 1 <= y` is one of a row of tile sizes"
)]

pub(crate) mod affine;
pub(crate) mod backward;
pub(crate) mod buffer;
mod coming;
mod depthwise;
pub(crate) mod forward;
pub(crate) mod geometry;
mod line;
pub(crate) mod norm;
mod pack;
mod pass;
mod period;
mod pointwise;
mod rows;
mod shares;
mod sum;
mod tile;
mod together;
mod weights;
pub(crate) mod winograd;

pub(crate) use sum::sum;

#[cfg(test)]
mod tests;
