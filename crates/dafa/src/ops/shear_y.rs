//! Shear along columns.

use super::affine::{affine, signed};
use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// Columns slide along themselves, the farther from the middle the more.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785), whose range it is; there the sign is part of the
/// range, while DADA draws it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ShearY {
    /// Rows up or down, per column from the middle, in halves of the map.
    pub range: [f64; 2],
    /// Whether a coin turns the value into its opposite.
    pub random_sign: bool,
}

impl Default for ShearY {
    fn default() -> Self {
        Self { range: [-0.3, 0.3], random_sign: false }
    }
}

impl FeatureOp for ShearY {
    fn change(&self, _: [usize; 4], level: f64, key: Key) -> Change {
        let value = signed(value(self.range, level), self.random_sign, key);
        affine(value, [[1.0, 0.0, 0.0], [value, 1.0, 0.0]])
    }
}
