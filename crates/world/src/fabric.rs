use candle::Tensor;
use sokd_core::Result;
use std::fmt::Debug;

/// A way between the devices of processes that have [met](crate::World), faster than over their hosts.
pub trait Fabric: Debug + Send + Sync {
    /// The weighted mean of a vector over all processes, to the bits of [`World::mean`](crate::World::mean): in the order of
    /// their ranks, summed in double precision. `weights` are those of all, by rank.
    ///
    /// # Shapes
    /// `own`: `(count,)`, as many everywhere, on this process's device → `(count,)`, there.
    ///
    /// # Errors
    /// What fails on the way; and what `gone` says, which is asked while it waits for the others.
    fn mean(&self, own: &Tensor, weights: &[f64], gone: &dyn Fn() -> Result<()>) -> Result<Tensor>;
}
