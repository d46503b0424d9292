//! Rotation.

use super::affine::{affine, signed};
use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// The map, turned around its middle.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785), whose range it is; there the sign is part of the
/// range, while DADA draws it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Rotate {
    /// Degrees.
    pub range: [f64; 2],
    /// Whether a coin turns the value into its opposite.
    pub random_sign: bool,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { range: [-30.0, 30.0], random_sign: false }
    }
}

impl FeatureOp for Rotate {
    fn change(&self, _: [usize; 4], level: f64, key: Key) -> Change {
        let value = signed(value(self.range, level), self.random_sign, key);
        let (sin, cos) = value.to_radians().sin_cos();
        affine(value, [[cos, sin, 0.0], [-sin, cos, 0.0]])
    }
}
