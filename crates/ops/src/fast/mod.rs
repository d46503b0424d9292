//! Operations on single precision in this machine's memory, each with its own backward pass: the form beside each of
//! [`composed`](crate::composed). The loops of convolution and batch norm are longer, and stand in `kernels`.

mod channels;
mod compare;
mod grid;
mod linear;
mod max_pool;
mod normals;
mod numbers;
mod pixel;
mod resample;
mod rows;
mod update;

pub(crate) use channels::{channel_concat, channel_interleave, channel_range};
pub(crate) use compare::{energy, sigmoid, squared_distance};
pub(crate) use grid::grid_sample;
pub(crate) use linear::{by_library, linear};
pub(crate) use max_pool::max_pool2d;
pub(crate) use normals::normals;
pub(crate) use pixel::{abs, channel_shuffle, normalize, permute_channels, rectified, relu};
pub(crate) use resample::{resample, resample_as};
pub(crate) use rows::{log_softmax, soft_cross_entropy, softmax, unit};
pub(crate) use update::{adam_, axpby_, sgd_};
