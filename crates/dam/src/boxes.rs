//! Where a detector's boxes are and what they come to, in two ways to the same end: by plain numbers on this machine, and by a
//! GPU's kernels, of whose numbers none comes here.

use crate::areas::{Cells, Found, cover, peaks};
use crate::monitor::Monitor;
use crate::{Combine, Dam, Over};
use candle::{DType, Tensor};
use sokd_core::Result;
use sokd_ops::{Areas, PeakAreas, peak_areas};

impl Dam {
    /// The boxes in each image, and the heatmaps they were found in.
    ///
    /// # Shapes
    /// Heatmaps: `(batch, height, width, heatmaps)`; sizes, offsets: `(batch, height, width, 2)`.
    pub(crate) fn find(&self, [heat, sizes, offsets]: &[Tensor; 3]) -> Result<(Vec<f32>, Vec<Vec<Found>>)> {
        let (_, height, width, channels) = heat.dims4()?;
        let [heat, sizes, offsets] = [numbers(heat)?, numbers(sizes)?, numbers(offsets)?];
        let Self { peaks: count, window, min_box, .. } = *self;
        let map = [height, width];
        let mut found = Vec::new();
        for (example, heat) in heat.chunks_exact(height * width * channels).enumerate() {
            let peaks = peaks(heat, [height, width, channels], count, window);
            let boxes = peaks.into_iter().map(|peak| {
                let cell = 2 * ((example * height + peak.row) * width + peak.column);
                let size = [sizes[cell], sizes[cell + 1]];
                let offset = [offsets[cell], offsets[cell + 1]];
                Found { peak, size, cells: Cells::around(&peak, size, offset, min_box as f32, map) }
            });
            found.push(boxes.collect::<Vec<_>>());
        }
        Ok((heat, found))
    }

    /// What boxes come to that were found, or drawn, here.
    ///
    /// # Shapes
    /// `like`: `(batch, height, width, heatmaps)`, of which `heat` are the numbers.
    pub(crate) fn areas_here(&self, like: &Tensor, heat: &[f32], found: &[Vec<Found>]) -> Result<Areas> {
        let (_, height, width, channels) = like.dims4()?;
        let monitor = Monitor::new(heat, [height, width, channels], found);
        Ok(Areas {
            weights: self.weights(found, [height, width], like)?,
            readings: Tensor::new(&monitor.numbers(), like.device())?,
        })
    }

    /// The same where heatmaps, sizes and offsets are, if there are kernels for it.
    pub(crate) fn areas_there(&self, [heat, sizes, offsets]: &[Tensor; 3]) -> Result<Option<Areas>> {
        let how = PeakAreas {
            count: self.peaks,
            window: self.window,
            least: self.min_box,
            power: self.combine.power(),
            by_area: self.over == Over::Area,
        };
        peak_areas(heat, sizes, offsets, &how)
    }

    /// What every cell counts for in `area`, so that the sum over an image is the term.
    fn weights(&self, found: &[Vec<Found>], map: [usize; 2], like: &Tensor) -> Result<Tensor> {
        let [height, width] = map;
        let power = self.combine.power();
        let mut weights = Vec::with_capacity(found.len() * height * width);
        for boxes in found {
            let counts = cover(boxes, map).into_iter().map(|count| count.min(1) * count.pow(power));
            let start = weights.len();
            weights.extend(counts.map(|count| count as f32));
            let whole = match self.over {
                Over::Map => (height * width) as f32,
                // An image without a box has nothing to compare.
                Over::Area => weights[start..].iter().sum::<f32>().max(1.0),
            };
            weights[start..].iter_mut().for_each(|weight| *weight /= whole);
        }
        Ok(Tensor::from_vec(weights, (found.len(), height, width), like.device())?)
    }
}

impl Combine {
    /// To what power a cell's boxes count, where there are any.
    fn power(self) -> u32 {
        match self {
            Self::Union => 0,
            Self::Sum => 1,
            Self::CountSquared => 2,
        }
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests;
