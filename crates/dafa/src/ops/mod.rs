//! What may happen to a feature map, one operation a file.

mod affine;

use candle::Tensor;
use sokd_core::{Key, Result};
use sokd_ops::Change;

/// A change of a feature map that comes in all strengths.
pub trait FeatureOp: Send + Sync {
    /// What happens to maps of a shape, as much as `level` says: 0 is the low end of the operation's range and 1 the high one.
    ///
    /// One change for the whole batch, differentiable in the map. What is drawn (a box, an order, noise) hangs on the
    /// key and the map's shape alone, so that every pass of a search sees the same.
    ///
    /// # Shapes
    /// `shape`: batch, height, width, channels.
    fn change(&self, shape: [usize; 4], level: f64, key: Key) -> Change;

    /// A map so changed.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`, and the same again.
    fn apply(&self, map: &Tensor, level: f64, key: Key) -> Result<Tensor> {
        self.change(map.dims4()?.into(), level, key).apply(map)
    }
}

sokd_core::catalog! {
    /// A feature operation that a recipe may name.
    pub enum OperationSpec: AsRef<dyn FeatureOp> {
        shear_x::ShearX,
        shear_y::ShearY,
        translate_x::TranslateX,
        translate_y::TranslateY,
        rotate::Rotate,
        cutout::Cutout,
        noise::Noise,
        channel_shuffle::ChannelShuffle,
        channel_drop::ChannelDrop,
    }
}

/// The value at a level of a range.
fn value([low, high]: [f64; 2], level: f64) -> f64 {
    low + level.clamp(0.0, 1.0) * (high - low)
}
