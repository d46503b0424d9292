//! Kernels for GPUs: one C text, compiled by NVIDIA's compiler when a GPU is first used, and by this machine's for the tests.
//!
//! A kernel is a loop over the lanes of its block, cut where they wait for each other (`kernels/common.h`), and holds nothing
//! in a lane across a cut. So a lane's part can run on a lane, or all parts of a piece one after another on a CPU: the
//! *mirror* (feature `mirror`, `SOKD_BACKEND=mirror`), in which the tests run every kernel, between guards, against this
//! machine's own loops. Nothing is added to by two lanes, so results are the same to the bit from run to run.

mod clip;
mod conv;
mod conv_norm;
#[cfg(feature = "cuda")]
mod cudnn;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(any(feature = "cuda", test))]
mod kept;
mod launch;
#[cfg(feature = "mirror")]
mod mirror;
#[cfg(feature = "cuda")]
mod nccl;
mod norm;
#[cfg(feature = "cuda")]
mod nvidia;
#[cfg(all(test, feature = "mirror"))]
mod nvrtc;
mod tables;
mod tally;
#[cfg(any(feature = "cuda", feature = "mirror"))]
mod text;
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "it is cuDNN that has kernels turned"))]
pub(crate) mod turn;
mod work;

pub(crate) use self::norm::{batch_norm, column_sums, comings, norm_relu, scale_shift};
pub(crate) use clip::{clip, norm};
pub(crate) use conv_norm::conv_norm;
#[cfg(feature = "cuda")]
pub(crate) use graph::{Graph, capture};
pub(crate) use launch::{Arg, Gpu, Kernel, over};
#[cfg(feature = "cuda")]
pub use nccl::Nccl;
#[cfg(feature = "cuda")]
pub(crate) use nvidia::aside;
#[cfg(any(feature = "cuda", feature = "mirror"))]
use std::sync::LazyLock;
pub(crate) use tables::tables;
pub(crate) use tally::{share_out, tally, weighted_means};
pub(crate) use work::Window;

/// An NVIDIA GPU by its number, made ready to train: what any thread asks of it, it does in the order in which they ask, and
/// memory that is freed stays with this process for the next tensor.
///
/// # Errors
/// Without the feature `cuda`, such a GPU, or its driver.
pub fn cuda(index: usize) -> candle::Result<candle::Device> {
    #[cfg(feature = "cuda")]
    return nvidia::open(index);
    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::disallowed_methods, reason = "it says what the build lacks")]
    candle::Device::new_cuda(index)
}

/// How many GPUs of NVIDIA's this build and this machine have.
pub fn cuda_devices() -> usize {
    #[cfg(feature = "cuda")]
    return nvidia::count();
    #[cfg(not(feature = "cuda"))]
    0
}

/// The text of all kernels, but for the words that differ from machine to machine.
#[cfg(any(feature = "cuda", feature = "mirror"))]
static KERNELS: LazyLock<String> = LazyLock::new(|| text::for_each_map(KERNELS_OF_MAPS));

#[cfg(any(feature = "cuda", feature = "mirror"))]
const KERNELS_OF_MAPS: &str = concat!(
    include_str!("kernels/common.h"),
    include_str!("kernels/pixel.cu"),
    include_str!("kernels/channels.cu"),
    include_str!("kernels/rows.cu"),
    include_str!("kernels/norm.cu"),
    include_str!("kernels/window.cu"),
    include_str!("kernels/sample.cu"),
    include_str!("kernels/change.cu"),
    include_str!("kernels/contrast.cu"),
    include_str!("kernels/update.cu"),
    include_str!("kernels/pictures.cu"),
    include_str!("kernels/ranks.cu"),
    include_str!("kernels/areas.cu"),
    include_str!("kernels/bytes.cu"),
);
