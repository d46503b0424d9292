//! A box of zeros.

use super::{FeatureOp, value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::Key;
use sokd_ops::Change;
use std::ops::Range;

/// Zeros in a box around a cell drawn at random, the same box for the whole batch.
///
/// # Source
/// `DeVries` and Taylor, 2017 (arXiv:1708.04552), on features; the range is that of the development code of SoKD
/// (arXiv:2409.18785). At an exact 0 nothing is cut, which is ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Cutout {
    /// The box's sides, as shares of the map's.
    pub range: [f64; 2],
    /// How shares become cells.
    pub rounding: Rounding,
}

/// How a share of a side becomes a number of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To the nearest number, but to one cell at least: ours.
    #[default]
    Nearest,
    /// Down, and down again to an even number: the development code's, which cuts nothing out of maps of 8 cells.
    Truncate,
}

impl Default for Cutout {
    fn default() -> Self {
        Self { range: [0.0, 0.2], rounding: Rounding::Nearest }
    }
}

impl FeatureOp for Cutout {
    fn change(&self, [_, height, width, _]: [usize; 4], level: f64, key: Key) -> Change {
        let (value, mut stream) = (value(self.range, level), key.stream());
        // In shares of the sides: maps of other sizes lose the same part of the picture.
        let mut side = |length| self.rounding.cells(value, length, stream.uniform());
        cut([side(height), side(width)])
    }
}

impl Rounding {
    /// The cells of a side of `length` that a box loses whose middle stands at the share `centre`.
    pub fn cells(self, value: f64, length: usize, centre: f64) -> Range<usize> {
        let middle = (centre * length as f64) as usize;
        let size = value * length as f64;
        let (before, size) = match self {
            Self::Nearest if value <= 0.0 => (0, 0),
            Self::Nearest => {
                let size = (size.round() as usize).max(1);
                (size / 2, size)
            }
            Self::Truncate => {
                let half = size as usize / 2;
                (half, 2 * half)
            }
        };
        let end = (middle + size).saturating_sub(before).min(length);
        middle.saturating_sub(before).min(end)..end
    }
}

/// Zeros in a box of rows and columns.
pub fn cut([rows, columns]: [Range<usize>; 2]) -> Change {
    if rows.is_empty() || columns.is_empty() { Change::Nothing } else { Change::Cut([rows, columns]) }
}
