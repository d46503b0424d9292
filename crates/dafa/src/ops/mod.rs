//! What may happen to a feature map, one operation a file.

mod affine;
mod normal;

use candle::Tensor;
use sokd_core::{Key, Result};

/// A change of a feature map that comes in all strengths.
pub trait FeatureOp: Send + Sync {
    /// The map, changed by as much as `level` says: 0 is the low end of the operation's range and 1 the high one.
    ///
    /// One change for the whole batch, differentiable in the map. What is drawn (a box, an order, noise) hangs on the
    /// key and the map's shape alone, so that every pass of a search sees the same.
    ///
    /// # Shapes
    /// `map`: `(batch, height, width, channels)`, and the same again.
    fn apply(&self, map: &Tensor, level: f64, key: Key) -> Result<Tensor>;
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
