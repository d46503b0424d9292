//! Translation along columns.

use super::affine::{Units, affine, signed};
use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// The map, moved up.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785), whose range it is. That code multiplies by
/// the map's width in coordinates from -1 to 1, which carries a map of 16 pixels out of sight at a level of 0.57;
/// that its value means a share of the side is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TranslateY {
    /// How far, in `units`.
    pub range: [f64; 2],
    /// What the range counts.
    pub units: Units,
    /// Whether a coin turns the value into its opposite.
    pub random_sign: bool,
}

impl Default for TranslateY {
    fn default() -> Self {
        Self { range: [-0.45, 0.45], units: Units::Fraction, random_sign: false }
    }
}

impl FeatureOp for TranslateY {
    fn change(&self, shape: [usize; 4], level: f64, key: Key) -> Change {
        let value = signed(value(self.range, level), self.random_sign, key);
        let shift = self.units.shift(value, shape[2]);
        affine(value, [[1.0, 0.0, 0.0], [0.0, 1.0, shift]])
    }
}
