//! Every operation in plain candle operations, of those whose gradients are right.
//!
//! Any device and any floating-point type: a device without kernels of ours runs these, tests run them in double
//! precision against finite differences, and the kernels are held against them.

mod conv;
mod grid;
mod norm;
mod pictures;
mod pixel;
mod pool;
mod resample;

pub(crate) use conv::conv2d;
pub(crate) use grid::grid_sample;
pub(crate) use norm::batch_norm;
pub(crate) use pictures::crops;
pub(crate) use pixel::{
    abs, channel_range, channel_shuffle, energy, linear, log_softmax, normalize, permute_channels, relu,
    sigmoid, soft_cross_entropy, softmax, squared_distance, unit,
};
pub(crate) use pool::max_pool2d;
pub(crate) use resample::resample;
