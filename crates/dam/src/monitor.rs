use crate::areas::{Found, cover};
use candle::Tensor;
use sokd_core::{Result, Terms};
use std::collections::{BTreeMap, BTreeSet};

/// What tells a detector from one that has collapsed, over a batch.
///
/// # Source
/// ours: agreement alone is content with maps that are the same everywhere, and the term's value, which is then 0, does
/// not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Monitor {
    /// The standard deviation of a heatmap over its cells, a mean over heatmaps and examples.
    spread: f32,
    /// Different sets of centres, a share of the examples.
    distinct: f32,
    /// Boxes centred on the cell that most are centred on, a share of the boxes.
    top_cell: f32,
    /// Cells in a box, a share of the map.
    coverage: f32,
    /// The mean side of a box in cells, as the detector says it.
    size: f32,
}

impl Monitor {
    /// # Shapes
    /// `heat`: `(batch, height, width, channels)`, of which `shape` says the last three.
    pub(crate) fn new(heat: &[f32], shape: [usize; 3], found: &[Vec<Found>]) -> Self {
        let [height, width, channels] = shape;
        let examples = heat.chunks_exact(height * width * channels);
        let spread = examples.map(|heat| spread(heat, channels)).sum::<f32>() / found.len() as f32;
        let boxes = found.iter().map(Vec::len).sum::<usize>().max(1) as f32;

        let centre = |found: &Found| (found.peak.row, found.peak.column);
        let sets: BTreeSet<BTreeSet<_>> =
            found.iter().map(|found| found.iter().map(centre).collect()).collect();
        let mut uses = BTreeMap::new();
        for place in found.iter().flatten().map(centre) {
            *uses.entry(place).or_insert(0u32) += 1;
        }
        let covered =
            |found: &Vec<Found>| cover(found, [height, width]).into_iter().filter(|&n| n > 0).count();
        let cells = (found.len() * height * width) as f32;
        let sides = found.iter().flatten().flat_map(|found| found.size).sum::<f32>();
        Self {
            spread,
            distinct: sets.len() as f32 / found.len() as f32,
            top_cell: uses.into_values().max().unwrap_or(0) as f32 / boxes,
            coverage: found.iter().map(covered).sum::<usize>() as f32 / cells,
            size: sides / (2.0 * boxes),
        }
    }

    /// In the order of [`READINGS`].
    pub(crate) fn numbers(&self) -> [f32; 5] {
        let Self { spread, distinct, top_cell, coverage, size } = *self;
        [spread, distinct, top_cell, coverage, size]
    }
}

/// How the log calls what the monitor says.
const READINGS: [&str; 5] = ["spread", "distinct", "top-cell", "coverage", "size"];

/// What it says, for the log.
///
/// # Shapes
/// `numbers`: `(5,)`.
pub(crate) fn readings(terms: Terms, numbers: &Tensor) -> Result<Terms> {
    let mut named = READINGS.into_iter().enumerate();
    named.try_fold(terms, |terms, (at, name)| Ok(terms.reading(name, &numbers.narrow(0, at, 1)?.squeeze(0)?)))
}

/// One image: the standard deviation over cells, a mean over channels.
fn spread(heat: &[f32], channels: usize) -> f32 {
    let (mut sums, mut squares) = (vec![0f32; channels], vec![0f32; channels]);
    // Against the first cell's values: nearly equal numbers would cancel in the squares.
    let first = &heat[..channels];
    for cell in heat.chunks_exact(channels) {
        for (((sum, square), value), first) in sums.iter_mut().zip(&mut squares).zip(cell).zip(first) {
            let above = value - first;
            *sum += above;
            *square += above * above;
        }
    }
    let cells = (heat.len() / channels) as f32;
    let deviation = |(sum, square): (f32, f32)| (square / cells - (sum / cells).powi(2)).max(0.0).sqrt();
    sums.into_iter().zip(squares).map(deviation).sum::<f32>() / channels as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::areas::{Cells, Peak};

    fn found(row: usize, column: usize, size: [f32; 2]) -> Found {
        let peak = Peak { channel: 0, row, column, value: 1.0 };
        Found { peak, size, cells: Cells::around(&peak, size, [0.0; 2], 0.0, [2, 2]) }
    }

    /// By hand: two maps of 2 × 2, one heatmap.
    #[test]
    fn the_monitor_says_what_a_hand_counts() {
        let heat = [1.0, 1.0, 3.0, 3.0, 0.5, 0.5, 0.5, 0.5];
        let boxes = [
            vec![found(0, 0, [0.0; 2]), found(0, 1, [0.0; 2])],
            vec![found(0, 1, [0.0; 2]), found(1, 1, [2.0, 0.0])],
        ];
        let monitor = Monitor::new(&heat, [2, 2, 1], &boxes);
        let expected = Monitor { spread: 0.5, distinct: 1.0, top_cell: 0.5, coverage: 5.0 / 8.0, size: 0.25 };
        assert_eq!(monitor, expected);
        // The same centres in another order are the same set.
        let turned = [boxes[0].clone(), boxes[0].iter().rev().copied().collect()];
        assert_eq!(Monitor::new(&heat, [2, 2, 1], &turned).distinct, 0.5);
    }

    #[test]
    fn a_map_that_hardly_varies_has_a_spread_of_its_own() {
        let heat: Vec<f32> = (0..256).map(|cell| 0.75 + 1e-6 * (cell % 2) as f32).collect();
        assert!((spread(&heat, 1) - 5e-7).abs() < 5e-8, "{}", spread(&heat, 1));
    }
}
