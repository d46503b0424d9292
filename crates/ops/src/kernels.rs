//! The loops behind the operations, on plain slices: channels last, single precision.

pub(crate) mod backward;
pub(crate) mod buffer;
mod depthwise;
pub(crate) mod forward;
pub(crate) mod geometry;
pub(crate) mod norm;
mod pack;
mod pass;
mod rows;
mod shares;
mod sum;
mod tile;
mod together;
mod weights;

pub(crate) use sum::sum;

#[cfg(test)]
mod tests;
