//! Normal noise.

use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// Normal noise, its own for every number of the map.
///
/// # Source
/// The operations of the development code of SoKD (arXiv:2409.18785), whose range it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Noise {
    /// The standard deviation, in the map's own units.
    pub range: [f64; 2],
}

impl Default for Noise {
    fn default() -> Self {
        Self { range: [0.0, 0.1] }
    }
}

impl FeatureOp for Noise {
    fn change(&self, shape: [usize; 4], level: f64, key: Key) -> Change {
        let value = value(self.range, level);
        if value == 0.0 {
            return Change::Nothing;
        }
        // Maps of another size see other noise.
        let count = shape.iter().product::<usize>();
        Change::Noise(value as f32, key.fold_in(count as u64))
    }
}
