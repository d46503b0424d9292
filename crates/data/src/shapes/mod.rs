//! The procedural set.

mod figure;
mod scene;

use crate::{Images, Locations, Memory, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sokd_core::{Key, PixelNorm, Result};

pub(crate) use scene::SIDE;

/// Ten figures in colour over clutter, 32 x 32 pixels, each with its true box: drawn, not read.
///
/// An image is a function of (`seed`, split, row), so a smaller set is the beginning of a larger one; every ten rows
/// hold each figure once.
///
/// # Source
/// ours: for a demonstration without files, and for scoring areas that a method finds against boxes that are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Shapes {
    /// Images to learn from.
    pub train: usize,
    /// Further images, for policies and for choosing.
    pub search: usize,
    /// Further images, to judge by.
    pub test: usize,
    /// Decides all of them.
    pub seed: u64,
}

impl Default for Shapes {
    fn default() -> Self {
        Self { train: 4000, search: 0, test: 2000, seed: 0 }
    }
}

impl Source for Shapes {
    fn read(&self, _: &Locations) -> Result<Memory> {
        let key = Key::new(self.seed).fold("shapes");
        let draw = |split: &str, count| draw(key.fold(split), count);
        let classes = figure::NAMES.map(str::to_owned).to_vec();
        Memory::new("shapes", classes, PIXELS, draw("train", self.train), draw("test", self.test))?
            .with_search(draw("search", self.search))
    }
}

/// Of 10,000 images, rounded; a test compares. Constant, so that networks that saw different parts agree.
const PIXELS: PixelNorm = PixelNorm { mean: [0.5; 3], std: [0.215; 3] };

/// The first `count` images of a split.
fn draw(key: Key, count: usize) -> Images {
    let mut images = Images::of_size([SIDE; 2]);
    let mut areas = Vec::with_capacity(count);
    for row in 0..count as u32 {
        let class = class(key, row);
        let (pixels, area) = scene::draw(class, &mut key.fold("scene").stream_at(0, 0, row));
        images.pixels.extend_from_slice(&pixels);
        images.labels.push(class as u32);
        areas.push(area);
    }
    Images { areas: Some(areas), ..images }
}

/// Each ten rows are an order of the ten figures.
fn class(key: Key, row: u32) -> usize {
    let count = figure::NAMES.len();
    let mut order: Vec<usize> = (0..count).collect();
    key.fold("order").stream_at(0, 0, row / count as u32).shuffle(&mut order);
    order[row as usize % count]
}

#[cfg(test)]
mod tests;
