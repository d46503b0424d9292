//! Channels left out.

use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// Zeros in place of some channels, the same for the whole batch.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785), whose range it is; it leaves the other channels
/// as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelDrop {
    /// The probability with which a channel is lost.
    pub range: [f64; 2],
    /// Whether the others make up for it, as dropout has it.
    pub rescale: bool,
}

impl Default for ChannelDrop {
    fn default() -> Self {
        Self { range: [0.0, 0.5], rescale: false }
    }
}

impl FeatureOp for ChannelDrop {
    fn change(&self, [.., channels]: [usize; 4], level: f64, key: Key) -> Change {
        let (value, mut stream) = (value(self.range, level), key.stream());
        let kept: Vec<bool> = (0..channels).map(|_| !stream.chance(value)).collect();
        // With every channel lost there is nothing to make up with.
        let scale = if self.rescale && value < 1.0 { 1.0 / (1.0 - value) } else { 1.0 };
        keep(&kept, scale)
    }
}

/// Some channels, scaled, and zeros in place of the others.
pub fn keep(kept: &[bool], scale: f64) -> Change {
    if scale <= 1.0 && kept.iter().all(|&kept| kept) {
        return Change::Nothing;
    }
    Change::Scale(kept.iter().map(|&kept| if kept { scale as f32 } else { 0.0 }).collect())
}
