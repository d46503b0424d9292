//! What the operations that move pixels share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;

/// What a translation's value counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Units {
    /// Shares of the map's side.
    #[default]
    Fraction,
    /// Sides of the map, in coordinates that run from -1 to 1: what the development code of SoKD computes, where half
    /// a level more than the middle is several maps away.
    Released,
}

impl Units {
    /// The shift in coordinates from -1 to 1; `side` is the one that the released code multiplies by.
    pub(super) fn shift(self, value: f64, side: usize) -> f64 {
        match self {
            Self::Fraction => 2.0 * value,
            Self::Released => value * side as f64,
        }
    }
}

/// The value, or its opposite with probability ½ where `random_sign` says so.
pub(super) fn signed(value: f64, random_sign: bool, key: Key) -> f64 {
    if random_sign && key.fold("sign").stream().chance(0.5) { -value } else { value }
}

/// `new(p) = old(theta · p)` for p in [-1, 1]²: bilinear, zeros outside. At `value` 0 nothing, to the bit.
pub(super) fn affine(value: f64, theta: [[f64; 3]; 2]) -> Change {
    if value == 0.0 { Change::Nothing } else { Change::Look(theta) }
}
