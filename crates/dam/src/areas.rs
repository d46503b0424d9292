//! Peaks, the boxes around them and what they cover: plain numbers, since no gradient passes.

use sokd_core::{Area, Stream};
use std::cmp::Ordering;

/// A cell that no cell near it exceeds, in one heatmap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Which heatmap.
    pub channel: usize,
    /// Counted from the top.
    pub row: usize,
    /// Counted from the left.
    pub column: usize,
    /// The heatmap's value.
    pub value: f32,
}

impl Peak {
    /// Before `other`: higher, or as high and earlier in (channel, row, column).
    fn precedes(&self, other: &Self) -> bool {
        let place = |peak: &Self| (peak.channel, peak.row, peak.column);
        match self.value.partial_cmp(&other.value) {
            Some(Ordering::Equal) => place(self) < place(other),
            order => order == Some(Ordering::Greater),
        }
    }
}

/// The `count` highest peaks of one image's heatmaps, the highest first; of equal ones the first in (channel, row,
/// column), so that a map that has collapsed to a constant has the same peaks everywhere. Where there are fewer peaks,
/// there are fewer in the list.
///
/// # Shapes
/// `heat`: `(height, width, channels)`, of which `shape` says how many; `window`: odd.
///
/// # Source
/// `CenterNet`'s (Zhou et al., 2019, arXiv:1904.07850, section 3), which the development code follows: a cell equal to the
/// largest of the window around it. Ours: ties, and that no cell beside a peak fills up a short list.
pub fn peaks(heat: &[f32], shape: [usize; 3], count: usize, window: usize) -> Vec<Peak> {
    let [height, width, channels] = shape;
    debug_assert_eq!(heat.len(), height * width * channels);
    let mut found: Vec<Peak> = Vec::with_capacity(count + 1);
    // What is below the last of a full list is passed over before its neighbours are looked at: nearly everything.
    let mut bar = f32::NEG_INFINITY;
    for (cell, values) in heat.chunks_exact(channels.max(1)).enumerate() {
        // Counted, not searched: without an early end the compiler makes vectors of it.
        if count == 0 || values.iter().map(|&value| u32::from(value >= bar)).sum::<u32>() == 0 {
            continue;
        }
        let (row, column) = (cell / width, cell % width);
        for (channel, &value) in values.iter().enumerate() {
            if value < bar || value.is_nan() {
                continue;
            }
            let peak = Peak { channel, row, column, value };
            let full = found.len() == count;
            if full && !found.last().is_some_and(|last| peak.precedes(last)) {
                continue;
            }
            if !tops(heat, shape, &peak, window) {
                continue;
            }
            found.insert(found.partition_point(|other| other.precedes(&peak)), peak);
            found.truncate(count);
            if found.len() == count {
                bar = found.last().map_or(bar, |last| last.value);
            }
        }
    }
    found
}

/// Whether nothing in the window around a peak is higher.
fn tops(heat: &[f32], [height, width, channels]: [usize; 3], peak: &Peak, window: usize) -> bool {
    let reach = window / 2;
    let near = |at: usize, side: usize| at.saturating_sub(reach)..(at + reach + 1).min(side);
    let mut cells =
        near(peak.row, height).flat_map(|row| near(peak.column, width).map(move |column| (row, column)));
    cells.all(|(row, column)| heat[(row * width + column) * channels + peak.channel] <= peak.value)
}

/// A rectangle of cells, all four sides of it inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cells {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Last row.
    pub bottom: usize,
    /// Last column.
    pub right: usize,
}

impl Cells {
    /// The cells of a box of width and height `size` whose centre is `offset` from a peak, both in cells, the
    /// horizontal first. Corners are moved into the map and cut down to whole numbers. No side is below `least`, nor
    /// below 0.
    ///
    /// # Source
    /// The development code's; `least` is ours.
    pub fn around(peak: &Peak, size: [f32; 2], offset: [f32; 2], least: f32, map: [usize; 2]) -> Self {
        let span = |at: usize, axis: usize, side: usize| {
            let (centre, half) = (at as f32 + offset[axis], size[axis].max(least).max(0.0) / 2.0);
            let last = (side - 1) as f32;
            ((centre - half).clamp(0.0, last) as usize, (centre + half).clamp(0.0, last) as usize)
        };
        let [height, width] = map;
        let ((left, right), (top, bottom)) = (span(peak.column, 0, width), span(peak.row, 1, height));
        Self { top, left, bottom, right }
    }

    /// How many rows and columns.
    pub fn sides(&self) -> [usize; 2] {
        [self.bottom - self.top + 1, self.right - self.left + 1]
    }

    /// The same rectangle with its corner elsewhere.
    #[must_use]
    pub fn at(&self, top: usize, left: usize) -> Self {
        let [rows, columns] = self.sides();
        Self { top, left, bottom: top + rows - 1, right: left + columns - 1 }
    }

    /// The same rectangle at a place drawn evenly from those where it fits.
    #[must_use]
    pub fn anywhere(&self, [height, width]: [usize; 2], stream: &mut Stream) -> Self {
        let [rows, columns] = self.sides();
        let mut draw = |side: usize, own: usize| stream.below((side - own + 1) as u32) as usize;
        let (top, left) = (draw(height, rows), draw(width, columns));
        self.at(top, left)
    }
}

/// A box that the detector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Where, and how distinctive.
    pub peak: Peak,
    /// Width and height as the detector said them, in cells.
    pub size: [f32; 2],
    /// What the box covers.
    pub cells: Cells,
}

/// How often each cell is covered.
///
/// # Shapes
/// `map`: height and width → `(height, width)`.
pub fn cover(boxes: &[Found], [height, width]: [usize; 2]) -> Vec<u32> {
    let mut counts = vec![0; height * width];
    for Found { cells, .. } in boxes {
        for row in cells.top..=cells.bottom {
            counts[row * width + cells.left..=row * width + cells.right]
                .iter_mut()
                .for_each(|count| *count += 1);
        }
    }
    counts
}

/// A map's cells against the image's pixels, height first in each pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Cells of the map.
    pub map: [usize; 2],
    /// Pixels of the image.
    pub image: [usize; 2],
}

impl Grid {
    /// What a rectangle of cells stands for in the image.
    pub fn area(&self, cells: &Cells) -> Area {
        let [height, width] = [0, 1].map(|axis| self.image[axis] as f32 / self.map[axis] as f32);
        Area {
            top: cells.top as f32 * height,
            left: cells.left as f32 * width,
            bottom: (cells.bottom + 1) as f32 * height,
            right: (cells.right + 1) as f32 * width,
        }
    }
}

#[cfg(test)]
mod tests;
