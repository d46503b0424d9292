#![doc = include_str!("../README.md")]
#![allow(unsafe_code)]
#![allow(
    clippy::inline_always,
    reason = "vector instructions reach only what is inlined into a function that has them"
)]

mod add;
mod areas;
mod backend;
mod bytes;
mod cases;
mod change;
mod channels;
mod clip;
mod compare;
mod composed;
mod contrast;
mod conv;
mod conv_norm;
mod environment;
mod fast;
mod gpu;
mod grid;
mod kernels;
mod likelihood;
mod linear;
mod macs;
mod mixed;
mod nearest;
mod norm;
mod parity;
mod pictures;
mod pixel;
mod pool;
mod record;
mod replay;
mod resample;
mod simd;
mod spent;
mod tally;
mod threads;
mod total;
mod trace;
mod update;

pub use add::add;
pub use areas::{Areas, PeakAreas, peak_areas};
pub use backend::{Backend, backend, tf32, with_backend};
pub use bytes::{equalized, inverted};
pub use cases::{Case, cases, cases_in_mixed_precision, cases_of_candle};
pub use change::{Change, Laid};
pub use channels::{channel_concat, channel_interleave, channel_pad, channel_range};
pub use clip::{clip, norm};
pub use compare::{energy, sigmoid, soft_cross_entropy, squared_distance};
pub use contrast::{Roll, Unfit, contrast};
pub use conv::{Conv, conv2d};
pub use conv_norm::{conv_norm, conv_norm_relu};
pub use environment::check_environment;
#[cfg(feature = "cuda")]
pub use gpu::Nccl;
pub use gpu::{cuda, cuda_devices};
pub use grid::{GridPadding, GridSample, affine_grid, grid_sample};
pub use likelihood::{cross_entropy, divergence, precise, softened_divergence, surprise};
pub use linear::linear;
pub use macs::count_macs;
pub use mixed::{narrow, widen, with_mixed_precision};
pub use nearest::nearest;
pub use norm::{Norm, batch_norm};
pub use parity::{Parity, parity};
pub use pictures::{Pick, Pictures};
pub use pixel::{abs, channel_shuffle, log_softmax, normalize, permute_channels, relu, softmax, unit};
pub use pool::{Pool, adaptive_avg_pool2d, avg_pool2d, global_avg_pool, max_pool2d};
pub use record::{backward, with_leaves_apart};
pub use replay::{Replay, beside_captures, capture, operation_by_operation, rehearse, replays};
pub(crate) use resample::Axis;
pub use resample::{upsample_bilinear2d, upsample_nearest2d};
pub use simd::{Simd, simd};
pub use spent::{Spent, peak_gflops, spent};
pub use tally::{Told, tally_};
pub use threads::{set_threads, threads};
pub use total::total;
pub use trace::{Normed, Operation, Step, trace};
pub use update::{AdamStep, Moved, Rates, SgdStep, adam_, axpby_, lean_, put_, put_rows_, sgd_};
